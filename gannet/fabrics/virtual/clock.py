"""Virtual time: an ordered queue of timers, in the same order in every run."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf


@dataclass(order=True)
class Timer:
    """An action at a moment of virtual time; those of one moment run in order of creation. None: cancelled."""

    t_s: float
    number: int
    action: Callable[[], None] | None = field(compare=False)


class Timeline:
    """`now_s`, and the pending timers."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._timers: list[Timer] = []
        self._cancelled = 0

    def __len__(self) -> int:
        """The number of timers held, including cancelled ones."""
        return len(self._timers)

    @property
    def next_s(self) -> float:
        """The time of the next timer; inf: there is none."""
        return self._timers[0].t_s if self._timers else inf

    def at(self, t_s: float, action: Callable[[], None]) -> Timer:
        """Schedule an action; those of one moment run in the order of the calls."""
        timer = Timer(t_s, next(self._order), action)
        heapq.heappush(self._timers, timer)
        return timer

    def after(self, wait_s: float, action: Callable[[], None]) -> Timer:
        """Schedule an action in `wait_s` seconds."""
        return self.at(self.now_s + wait_s, action)

    def cancel(self, timers: Sequence[Timer]) -> None:
        """Cancel timers; the heap is swept when most of its timers are cancelled."""
        for timer in timers:
            timer.action = None
        self._cancelled += len(timers)
        if self._cancelled > 1000 and self._cancelled > len(self._timers) / 2:
            self._timers = [timer for timer in self._timers if timer.action is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def go_on(self) -> None:
        """Advance to the next timer and run its action; there must be one."""
        timer = heapq.heappop(self._timers)
        if timer.action is not None:
            self.now_s = timer.t_s
            timer.action()
