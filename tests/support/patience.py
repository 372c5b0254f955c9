"""For tests on a machine that stands still now and then: wait for what must come, look again when disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(what: str, true: Callable[[], Found], patience_s: float = 120.0, every_s: float = 0.05) -> Found:
    """Poll until `true()` is something; AssertionError that says what never came."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < end, f"waited {patience_s:.0f} s in vain until {what}"
        time.sleep(every_s)
    return found


def seen_right(look: Callable[[], Found], right: Callable[[Found], bool], looks: int = 5) -> Found:
    """The first look that is `right`, else the last of them, for the caller to judge.

    A look is one measurement, not a test. A host that takes the processors away for a moment spoils one; what is
    wrong with the thing that is measured is there in each.
    """
    for _ in range(looks - 1):
        if right(found := look()):
            return found
        print(f"looked again after {str(found)[:1000]}")
    return look()


class Processors:
    """How busy this machine's processors have been since this was made.

    What a hypervisor took counts as busy; work of low priority does not, for it yields.
    """

    def __init__(self) -> None:
        self._begin = self._read()

    @staticmethod
    def _read() -> tuple[int, int]:
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return ticks[1] + ticks[3] + ticks[4], sum(ticks)  # nice, idle, iowait; of all up to steal

    def busy_share(self) -> float:
        idle, total = (now - then for now, then in zip(self._read(), self._begin, strict=True))
        return 1 - idle / max(1, total)
