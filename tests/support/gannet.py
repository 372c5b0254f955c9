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


def start_resume(folder: Path, command: str = "resume") -> subprocess.Popen[str]:
    """`gannet resume folder/out`, running."""
    argv = [sys.executable, "-m", "gannet", command, str(folder / "out")]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
    )


def in_folder(folder: Path, command: str) -> Ran:
    """`gannet COMMAND folder/out`, to its end."""
    process = start_resume(folder, command)
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
    """Pids of processes that name `marker` in their environment, or `what` on their command line as well."""
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
    return sorted(found)
