"""Ends code of this process's main thread that takes too long: virtual time has no limit of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

_CLOCKS = {
    "wall": (signal.ITIMER_REAL, signal.SIGALRM, time.monotonic),
    "processor": (signal.ITIMER_VIRTUAL, signal.SIGVTALRM, time.process_time),
}


@contextmanager
def time_limit(
    seconds: float, clock: Literal["wall", "processor"], error: Callable[[], BaseException]
) -> Iterator[None]:
    """Raise `error()` in the block if it takes longer. The processor's clock stops while other processes compute.

    A limit of the same clock around this one holds again after the block.
    """
    timer, number, now_s = _CLOCKS[clock]

    def strike(number: int, frame: object) -> None:
        raise error()

    before = signal.signal(number, strike)
    begin_s = now_s()
    outer_s, _ = signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)
        if outer_s:
            signal.setitimer(timer, max(outer_s - (now_s() - begin_s), 1e-3))
