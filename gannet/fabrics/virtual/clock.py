"""Virtual time: an ordered queue of timers, in the same order in every run."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

Action = Callable[[], None]


class Timer:
    """An action at a moment of virtual time. None: cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action


class Timeline:
    """`now_s`, and the pending timers; those of one moment run in order of their numbers."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._later: list[tuple[float, int, Timer]] = []  # a heap; tuples are compared without a call of Python code
        self._soon: deque[tuple[float, int, Timer]] = deque()  # in order, so that most timers never enter the heap
        self._cancelled = 0

    def __len__(self) -> int:
        """The number of timers held, including cancelled ones."""
        return len(self._later) + len(self._soon)

    @property
    def next_s(self) -> float:
        """The time of the next timer; inf: there is none."""
        first_s = self._later[0][0] if self._later else inf
        return min(first_s, self._soon[0][0]) if self._soon else first_s

    def number(self) -> int:
        """A place in the order of timers, for `at`; each is given once."""
        return next(self._order)

    def at(self, t_s: float, action: Action, number: int | None = None) -> Timer:
        """Schedule an action; those of one moment run in the order of the calls, or of `number` where it is given."""
        timer = Timer(action)
        if number is not None:
            heapq.heappush(self._later, (t_s, number, timer))
        elif t_s == self.now_s and (not self._soon or self._soon[-1][0] <= t_s):
            self._soon.append((t_s, next(self._order), timer))
        else:
            heapq.heappush(self._later, (t_s, next(self._order), timer))
        return timer

    def after(self, wait_s: float, action: Action) -> Timer:
        """Schedule an action in `wait_s` seconds."""
        return self.at(self.now_s + wait_s, action)

    def cancel(self, timers: Sequence[Timer]) -> None:
        """Cancel timers; the heap is swept when most of its timers are cancelled."""
        for timer in timers:
            timer.action = None
        self._cancelled += len(timers)
        if self._cancelled > 1000 and self._cancelled > len(self) / 2:
            self._later = [each for each in self._later if each[2].action is not None]
            heapq.heapify(self._later)
            self._cancelled = 0

    def go_on(self) -> None:
        """Advance to the next timer and run its action; there must be one."""
        if self._soon and not (self._later and self._later[0] < self._soon[0]):
            t_s, _, timer = self._soon.popleft()
        else:
            t_s, _, timer = heapq.heappop(self._later)
        if timer.action is not None:
            self.now_s = t_s
            timer.action()
