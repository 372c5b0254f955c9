"""How the workers of one session share the machine: real tests first, everything else in what they leave over."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_NICENESS = {"links": 0, "runs": 5, "containers": 5, "emulated": 19}  # links are judged by times of milliseconds
_LAST = 19


def begin_own_group() -> None:
    """Make this worker and what it starts a group of its own to a scheduler that shares time between groups.

    Linux does (sched_autogroup): niceness counts within a session of processes, and sessions get alike.
    """
    with suppress(PermissionError):  # it leads a group of processes already
        os.setsid()


def make_way(kind: str | None) -> None:
    """Take the place of tests of this kind, None: pure ones. It is for all that is started from now on.

    Only root may go back to a better place.
    """
    niceness = _LAST if kind is None else _NICENESS[kind]
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    with suppress(OSError):  # a kernel without groups, or a user who asks too often
        Path("/proc/self/autogroup").write_text(str(niceness))


def processor_times() -> tuple[int, int]:
    """All time of all processors since the machine started, and how much of it they were idle, in ticks."""
    user, nice, system, idle, waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return user + nice + system + idle + waiting + sum(rest), idle + waiting
