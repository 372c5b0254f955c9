"""One command at a time in a folder of results; a lock that was left behind stops nobody."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gannet.ledger.lock import NAME, FolderBusy, Holder, held, results_of

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from gannet.ledger.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

FORKS = HOLD.replace(
    "    print",
    """
    import os
    if child := os.fork():
        os.write(1, f"{child}\\n".encode())
        os._exit(0)
    print""",
)


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_told_who_works_there_and_a_killed_one_stops_nobody(tmp_path: Path) -> None:
    first = hold(tmp_path)
    try:
        with pytest.raises(
            FolderBusy, match=f"^{tmp_path}: .* still works in this folder .process {first.pid}, since "
        ):
            held(tmp_path).__enter__()
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=240)
    assert (tmp_path / NAME).exists()
    with held(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_forked_within_holds_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a sandbox does: what was started outside may be killed before what is inside has ended."""
    first = subprocess.Popen(
        [sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert first.stdout is not None
    number, said = sorted(first.stdout.readline() for _ in range(2))
    child = int(number)
    assert said == "held\n" and first.wait(240) == 0
    with pytest.raises(FolderBusy):
        held(tmp_path).__enter__()
    os.kill(child, signal.SIGKILL)
    monkeypatch.setattr("gannet.ledger.lock._ENDS_S", 120.0)
    with held(tmp_path):  # which waits for a moment where the record's process has ended already
        pass


def test_a_folder_that_was_made_for_nothing_is_not_left(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / NAME).exists()
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "spec.yaml").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_something_else_of_that_name(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / NAME, tmp_path / "other"
    other.write_text("mine")
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link": lambda: path.symlink_to(other)}[kind]()
    with pytest.raises((FolderBusy, OSError)):
        held(tmp_path).__enter__()
    assert other.read_text() == "mine" and os.path.lexists(path)


def test_without_flock_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system's part is played by its answer alone: ENOTSUP, as of a FUSE file system without locks."""

    def none(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    child = subprocess.Popen(["sleep", "600"])
    try:
        mine = Holder.here()
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        other = replace(mine, pid=child.pid, started=int(stat[19]))
        stale = {
            "of an earlier boot": replace(other, boot="another"),
            "a process that has the pid of an earlier one": replace(other, started=other.started - 1),
        }
        for holder in stale.values():
            (tmp_path / NAME).write_text(json.dumps(asdict(holder)))
            with held(tmp_path):
                pass
        (tmp_path / NAME).write_text(json.dumps(asdict(other)))
        with pytest.raises(FolderBusy, match=f"process {child.pid}"):
            held(tmp_path).__enter__()
    finally:
        child.kill()
        child.wait()
    with held(tmp_path):  # its process is dead
        pass


def test_a_runs_lock_is_its_comparisons(tmp_path: Path) -> None:
    run = tmp_path / "gossip" / "seed-1"
    run.mkdir(parents=True)
    (run / "steps.jsonl").touch()
    assert results_of(run) == run
    (tmp_path / "spec.yaml").touch()
    assert results_of(run) == tmp_path == results_of(tmp_path)
