"""For tests on a machine that stands still now and then: wait for what must come, look again when disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    what: str, true: Callable[[], Found | None], patience_s: float = 240.0, every_s: float = 0.05
) -> Found:
    """Poll until `true()` is something; AssertionError that says what never came."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < end, f"waited {patience_s:.0f} s in vain until {what}"
        time.sleep(every_s)
    return found


LOOKED_AGAIN: list[str] = []  # a test's name for each time; shown when the session ends


def seen_right(look: Callable[[], Found], right: Callable[[Found], bool], looks: int = 7) -> Found:
    """A look that is `right`: the first, or after a wrong one the second of two in a row. Else a wrong one, to judge.

    A look is one measurement, not a test. A host that takes the processors away for a moment spoils one; what is
    wrong with the thing that is measured is there in each, and what is wrong in every second look is told here.
    """
    wrong = None
    in_a_row = 0
    for number in range(looks):
        if right(found := look()):
            in_a_row += 1
            if number == 0 or in_a_row == 2:
                return found
        else:
            wrong, in_a_row = found, 0
            LOOKED_AGAIN.append(os.environ.get("PYTEST_CURRENT_TEST", "?").partition(" ")[0])
            print(f"looked again after {str(found)[:1000]}")
    assert wrong is not None
    return wrong


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
