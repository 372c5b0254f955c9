"""Resource usage of this process by the kernel's count: processor time, waits for a processor, memory."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Scheduling:
    """Seconds that all threads of this process ran, and seconds they were runnable but had to wait.

    From /proc/self/task/*/schedstat. A thread that has ended counts with its last reading.
    """

    def __init__(self, tasks: Path = Path("/proc/self/task")) -> None:
        self._tasks = tasks
        self._seen: dict[str, tuple[int, int]] = {}

    def read(self) -> tuple[float, float]:
        """(running, waiting for a processor), seconds since the process began; zeros where the kernel keeps none."""
        for task in self._tasks.iterdir():
            try:
                ran, waited, _slices = (task / "schedstat").read_text().split()
            except OSError:  # the thread has ended, or this kernel counts nothing
                continue
            self._seen[task.name] = int(ran), int(waited)
        totals = list(self._seen.values())
        return sum(ran for ran, _ in totals) / 1e9, sum(waited for _, waited in totals) / 1e9


def resident_bytes() -> int:
    """Memory of this process that is in RAM, pages shared with others included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def throttled_seconds(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Seconds that a CPU limit held this container's processes still; 0 where there is no limit.

    In a container the cgroup's own files are at the root (version 2), or under cpu/ (version 1).
    """
    for path, field, per_second in (
        (root / "cpu.stat", "throttled_usec", 1e6),
        (root / "cpu" / "cpu.stat", "throttled_time", 1e9),
    ):
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
        except OSError:
            continue
        return sum(int(value) for name, value in lines if name == field) / per_second
    return 0.0


def proportional_set_mb() -> float:
    """This process's share of memory (Pss: shared pages divided among their users), MB of 10^6 bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
