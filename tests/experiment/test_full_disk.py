"""A disk that is really full, or read-only: a small tmpfs in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load

from gannet.node.training.checkpoint import Checkpoint
from tests.support.gannet import QUICK, ROOT

pytestmark = pytest.mark.real("runs")

SMALL = {**QUICK, "stop": {"steps": 24}, "snapshot_every": 2, "checkpoint_every": 4}
VIRTUAL = {**SMALL, "fabric": "virtual", "pace_ms": 10}


@dataclass(frozen=True)
class Disk:
    """A tmpfs that only processes in the holder's namespace see at `path`; `seen`: the same folder from here."""

    holder: int
    path: Path

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.path}")

    def fill(self, leave: int) -> None:
        """Leave so many bytes free."""
        free = os.statvfs(self.seen).f_bavail * os.statvfs(self.seen).f_frsize
        (self.seen / "filler").write_bytes(b"x" * (free - leave))

    def gannet(self, *words: str) -> subprocess.Popen[str]:
        """`gannet WORDS`, running, in the namespace that has the disk."""
        entered = ["nsenter", f"--target={self.holder}", "--mount", *_USER_ENTERED, "--"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*entered, sys.executable, "-m", "gannet", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.path.parent,
            env={**environment, "XDG_STATE_HOME": str(self.path.parent / "state")},
        )  # fmt: skip


_ROOT = os.geteuid() == 0
_USER = [] if _ROOT else ["--user", "--map-root-user"]
_USER_ENTERED = [] if _ROOT else ["--user", "--preserve-credentials"]


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Disk]:
    path = folder / "disk"
    path.mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs {path} && echo mounted && exec sleep infinity"
    with subprocess.Popen(
        ["unshare", "--mount", *_USER, "sh", "-c", mount], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "mounted\n"
            yield Disk(holder.pid, path)
        finally:
            holder.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """The output up to the line that has the words."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if words in line:
            return read
    raise AssertionError(f"ended with {process.wait()} without {words!r}:\n{read}")


def spec_in(folder: Path, spec: dict[str, Any]) -> str:
    (folder / "small.yaml").write_text(yaml.safe_dump(spec))
    return str(folder / "small.yaml")


def states(run: Path) -> dict[str, bytes]:
    """The nodes' parameters in every snapshot."""
    files = run.glob("snapshots/*/*.safetensors")
    return {str(path.relative_to(run)): load(path.read_bytes())["x"].numpy().tobytes() for path in files}


def losses(run: Path) -> dict[tuple[int, int], dict[str, float]]:
    """Each player's loss by node and step, of every line."""
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    found = {
        (line["node"], line["step"]): {name: value for name, value in line.items() if name.startswith("loss")}
        for line in lines
    }
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    argv = [sys.executable, "-m", "gannet", "run", spec_in(folder, VIRTUAL), "--out", str(folder / "out")]
    subprocess.run(argv, check=True, cwd=ROOT, capture_output=True)
    return folder / "out" / "run" / "seed-1"


@pytest.mark.parametrize("fabric", ["virtual", "namespaces"])
def test_a_run_waits_for_space_and_loses_nothing(tmp_path: Path, undisturbed: Path, fabric: str) -> None:
    with disk(tmp_path, "32m") as small:
        small.fill(leave=4_000_000)
        with small.gannet(
            "run", spec_in(tmp_path, {**VIRTUAL, "fabric": fabric}), "--out", f"{small.path}/out"
        ) as run:
            read_until(run, "is full: the run waits")
            (small.seen / "filler").unlink()
            assert "there is space again" in read_until(run, "there is space again")
            output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output
        assert "Traceback" not in output
        place = small.seen / "out" / "run" / "seed-1"
        assert losses(place) == losses(undisturbed)
        assert states(place) == states(undisturbed)
        summary = json.loads((place / "summary.json").read_text())
        assert summary["status"] == "finished"
        assert any("the disk was full for" in reason for reason in summary["reasons"]) == (fabric == "namespaces")
        if fabric == "namespaces":  # a part of a run that goes on to a later end is not trusted for what it was
            later = f"stop.steps={summary['steps'] + 1}"
            with small.gannet("resume", f"{small.path}/out", "--set", later) as resumed:
                output, _ = resumed.communicate(timeout=120)
            assert resumed.returncode == 0, output
            summary = json.loads((place / "summary.json").read_text())
            assert any(": the disk was full for" in reason for reason in summary["reasons"]), summary
        assert (small.seen / "out" / "report.html").stat().st_size > 0


def test_a_run_that_is_ended_while_it_waits_says_how_to_go_on(tmp_path: Path, undisturbed: Path) -> None:
    with disk(tmp_path, "32m") as small:
        small.fill(leave=4_000_000)
        with small.gannet("run", spec_in(tmp_path, VIRTUAL), "--out", f"{small.path}/out") as run:
            read_until(run, "is full: the run waits")
            run.send_signal(signal.SIGINT)
            output, _ = run.communicate(timeout=120)
        assert run.returncode == 1, output
        assert "Traceback" not in output
        assert "the disk is full; what was written before is kept" in output
        assert f"gannet resume {small.path}/out" in output
        place = small.seen / "out" / "run" / "seed-1"
        for file in place.glob("checkpoints/*/*.safetensors"):
            Checkpoint.unpack(file.read_bytes(), str(file))  # what has its name is whole
        (small.seen / "filler").unlink()
        with small.gannet("resume", f"{small.path}/out") as resumed:
            output, _ = resumed.communicate(timeout=120)
        assert resumed.returncode == 0, output
        assert losses(place) == losses(undisturbed)
        assert states(place) == states(undisturbed)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("read-only", ["run", "{spec}", "--out", "{disk}/new"]),
        ("read-only", ["resume", "{disk}/out"]),
        ("read-only", ["score", "{disk}/out"]),
        ("full", ["run", "{spec}", "--out", "{disk}/new"]),
        ("full", ["export", "{run}", "--to", "{disk}/g.onnx"]),
        ("full", ["report", "{disk}/out"]),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else words,
)
def test_a_disk_that_takes_nothing_is_told_in_one_message(
    tmp_path: Path, undisturbed: Path, state: str, words: list[str]
) -> None:
    with disk(tmp_path, "32m") as small:
        whole = small.seen / "out"
        subprocess.run(["cp", "-r", str(undisturbed.parents[1]), str(whole)], check=True)
        if words[0] == "resume":
            (whole / "run" / "seed-1" / "summary.json").write_text('{"status": "stopped"}')
        if state == "full":
            small.fill(leave=0)
        else:
            remount = ["nsenter", f"--target={small.holder}", "--mount", *_USER_ENTERED, "mount", "-o", "remount,ro"]
            subprocess.run([*remount, str(small.path)], check=True)
        spec = spec_in(tmp_path, {**VIRTUAL, "score": {"points": 1, "samples": 100}})
        values = {"spec": spec, "disk": small.path, "run": undisturbed}
        with small.gannet(*(word.format(**values) for word in words)) as command:
            output, _ = command.communicate(timeout=120)
        assert command.returncode, output
        assert "Traceback" not in output
        assert ("is full" if state == "full" else "read-only") in output
