"""The real `gannet` command as a subprocess, and what it leaves on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.patience import wait_until

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {
    "name": "quick",
    "nodes": 3,
    "links": {"profile": {"rate": "50Mbit", "delay_ms": 5}},
    "task": {"loss": "hinge", "width": 8},
    "batch": 4,
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 6},
    "snapshot_every": 3,
    "score": None,
}


# An ordinary user as the kernel sees one: no capability, in a user namespace that maps to the caller.
ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


def net(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`gannet net ARGUMENTS`, of a user who has set nothing but `environment`."""
    argv = [sys.executable, "-m", "gannet", "net", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
    variables = {**clean, "COLUMNS": "160", **environment}
    return subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240)


def start(folder: Path, command: list[str], prefix: Sequence[str] = (), **changes: Any) -> subprocess.Popen[str]:
    """`PREFIX gannet COMMAND spec --out folder/out …`, running."""
    folder.mkdir(exist_ok=True)
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump({**QUICK, **changes}))
    argv = [*prefix, sys.executable, "-m", "gannet", *command, str(spec), "--out", str(folder / "out")]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
    )


def start_resume(folder: Path, command: str = "resume", *options: str) -> subprocess.Popen[str]:
    """`gannet resume folder/out`, running."""
    argv = [sys.executable, "-m", "gannet", command, str(folder / "out"), *options]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
    )


def in_folder(folder: Path, command: str, *options: str) -> Ran:
    """`gannet COMMAND folder/out`, to its end."""
    process = start_resume(folder, command, *options)
    output, _ = process.communicate(timeout=600)
    return Ran(process.returncode, output, folder)


def resume(folder: Path) -> Ran:
    """`gannet resume folder/out`, to its end."""
    return in_folder(folder, "resume")


@dataclass(frozen=True)
class Ran:
    """What a finished command said and left."""

    status: int
    output: str
    folder: Path

    def run(self, arm: str = "run", seed: int = 1) -> Path:
        return self.folder / "out" / arm / f"seed-{seed}"

    def summary(self, arm: str = "run", seed: int = 1) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run(arm, seed) / "summary.json").read_text())
        return summary

    def steps(self, arm: str = "run", seed: int = 1) -> list[dict[str, Any]]:
        text = (self.run(arm, seed) / "steps.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


def gannet(folder: Path, command: list[str], prefix: Sequence[str] = (), **changes: Any) -> Ran:
    """Run the command to its end."""
    process = start(folder, command, prefix, **changes)
    output, _ = process.communicate(timeout=600)
    return Ran(process.returncode, output, folder)


def processes(marker: str, what: str = "") -> list[int]:
    """Pids of processes that name `marker` in their environment, or `what` on their command line as well.

    They are in no order: ids begin again from the smallest after the largest. One that has ended is not there,
    whether its parent has waited for it or not.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if marker.encode() in environment and what.encode() in command:
            found.append(int(entry.name))
    return found


FORK_SERVER = "gannet.fabrics.namespaces.fork_server"  # on its command line, and on those of the nodes that it forks
LINK_AGENT = "gannet.netem.agent.server"


def _stat(pid: int) -> tuple[int, int] | None:
    """When a process started, in ticks since the machine did, and its parent's pid. None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19]), int(fields[1])


def _in_node(pid: int, rank: int) -> bool:
    """Whether a process is in the network namespace that its sandbox has for node `rank`."""
    try:
        own, of_node = (Path(f"/proc/{pid}/{at}").stat() for at in ("ns/net", f"root/run/netns/node{rank}"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return (own.st_dev, own.st_ino) == (of_node.st_dev, of_node.st_ino)


def node_process(marker: str, rank: int, what: str = FORK_SERVER) -> int:
    """Wait for the process of node `rank` on the namespaces fabric, or another one (LINK_AGENT) in its namespace.

    What such a process starts has its command line for a moment, so it is the oldest one.
    """

    def oldest() -> int | None:
        inside = [pid for pid in processes(marker, what) if _in_node(pid, rank)]
        started = [(stat[0], pid) for pid in inside if (stat := _stat(pid))]
        return min(started)[1] if started else None

    return wait_until(f"node {rank} has a process of {what}", oldest)


def fork_server(marker: str) -> int:
    """Wait for the fork server of the namespaces fabric: it is a child of none that has its command line."""

    def eldest() -> int | None:
        found = processes(marker, FORK_SERVER)
        parents = {pid: stat[1] for pid in found if (stat := _stat(pid))}
        return next((pid for pid, parent in parents.items() if parent not in parents), None)

    return wait_until("there is a fork server", eldest)
