"""Remembers running sandboxes, so that `gannet clean` can end the processes a killed one left behind, and no others.

An entry names processes by pid and start time: a pid that now belongs to another process never matches.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process as the kernel knows it: its pid and when it started (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now. Raises ProcessLookupError when there is none."""
        started = _started(pid)
        if started is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, started)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return _started(self.pid) == self.started


@dataclass(frozen=True)
class Entry:
    """One sandbox: the outer process that waits, the inner one whose end ends all others, and the command."""

    outer: Process
    inner: Process
    command: str
    path: Path

    def forget(self) -> None:
        """Remove the entry."""
        self.path.unlink(missing_ok=True)


def state_folder() -> Path:
    """The folder of the entries: $XDG_STATE_HOME/gannet, or ~/.local/state/gannet."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "gannet" / "sandboxes"


def remember(outer_pid: int, inner_pid: int, command: str) -> Entry:
    """Write an entry for a new sandbox."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    outer, inner = Process.of(outer_pid), Process.of(inner_pid)
    entry = Entry(outer, inner, command, folder / f"{outer.pid}-{outer.started}.json")
    partial = entry.path.with_suffix(".partial")  # a concurrent `gannet clean` sees a whole entry or none
    partial.write_text(json.dumps({"outer": asdict(outer), "inner": asdict(inner), "command": command}))
    partial.replace(entry.path)
    return entry


def entries() -> list[Entry]:
    """All entries; one that cannot be read raises ValueError naming the file."""
    found = []
    for path in sorted(state_folder().glob("*.json")):
        try:
            data = json.loads(path.read_text())
            found.append(Entry(Process(**data["outer"]), Process(**data["inner"]), data["command"], path))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not an entry of a sandbox ({error}); remove the file") from error
    return found


@dataclass(frozen=True)
class Cleaned:
    """The outcome for an entry: "running" (left alone), "ended" (processes were killed) or "gone"."""

    entry: Entry
    state: str


def clean() -> list[Cleaned]:
    """End every sandbox whose outer process is dead, and remove the entries of ended sandboxes."""
    result = []
    for entry in entries():
        if entry.outer.alive():
            result.append(Cleaned(entry, "running"))
            continue
        state = "gone"
        if entry.inner.alive():
            os.kill(entry.inner.pid, signal.SIGKILL)
            state = "ended"
            for _ in range(500):
                if not entry.inner.alive():
                    break
                time.sleep(0.01)
        entry.forget()
        result.append(Cleaned(entry, state))
    return result


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # a process name may contain anything, so count from its end
    return None if fields[0] in "ZX" else int(fields[19])
