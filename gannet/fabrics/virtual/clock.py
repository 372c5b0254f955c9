"""Virtual time: what is to happen at which moment, in order, and the same order whenever it is run."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf


@dataclass(order=True)
class Timer:
    """Something that happens at a moment of virtual time, in the order it was asked for; None: cancelled."""

    t_s: float
    number: int
    action: Callable[[], None] | None = field(compare=False)


class Timeline:
    """`now_s`, and the timers that are to come."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._timers: list[Timer] = []
        self._cancelled = 0

    def __len__(self) -> int:
        """Timers that are held, some of them cancelled ones."""
        return len(self._timers)

    @property
    def next_s(self) -> float:
        """When the next timer is due; inf: there is none."""
        return self._timers[0].t_s if self._timers else inf

    def at(self, t_s: float, action: Callable[[], None]) -> Timer:
        """Have something happen then; what is asked for one moment happens in the order of asking."""
        timer = Timer(t_s, next(self._order), action)
        heapq.heappush(self._timers, timer)
        return timer

    def after(self, wait_s: float, action: Callable[[], None]) -> Timer:
        """Have something happen so long from now."""
        return self.at(self.now_s + wait_s, action)

    def cancel(self, timers: Sequence[Timer]) -> None:
        """Forget deadlines that are met; the heap is swept when most of it is such."""
        for timer in timers:
            timer.action = None
        self._cancelled += len(timers)
        if self._cancelled > 1000 and self._cancelled > len(self._timers) / 2:
            self._timers = [timer for timer in self._timers if timer.action is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def go_on(self) -> None:
        """Let the next timer's moment come, and what is to happen then; there must be one."""
        timer = heapq.heappop(self._timers)
        if timer.action is not None:
            self.now_s = timer.t_s
            timer.action()
