"""When a node says that it waits: after its patience with one message, and with a whole step.

A wait is long when it alone exhausts the node's patience. Where many waits of one step follow each other, each may be
short and the node still look silent to those that wait for it: so once a step has lasted that long, its first wait is
reported as well, once a step, marked as part of many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf

# The peer waited for, the round, and whether it is the step's waits together that are long.
WaitReport = Callable[[int, int, bool], None]


class Impatience:
    """Reports the waits of one node; for the training thread."""

    def __init__(self, on_wait: WaitReport, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_wait, self._clock = on_wait, clock
        self._since_s, self._told = -inf, False
        self.moves()

    def moves(self) -> None:
        """The node has ended a step, or continues after a meeting."""
        self._since_s, self._told = self._clock(), False

    def due_s(self, patience_s: float) -> float:
        """When a wait of this step is due to be reported, however short; inf: one has been."""
        return inf if self._told else self._since_s + patience_s

    def tell(self, peer: int, number: int, together: bool) -> None:
        """Report a wait for that peer in that round."""
        self._told = True
        self._on_wait(peer, number, together)

    def times_s(self, peer: int, number: int, patience_s: float) -> Iterator[float]:
        """Seconds to wait before each report of a wait that begins now, which is made when the next is asked for."""
        begun_s = self._clock()
        early_s = self.due_s(patience_s) - begun_s
        if early_s < patience_s:
            yield max(0.0, early_s)
            self.tell(peer, number, together=True)
        yield max(0.0, begun_s + patience_s - self._clock())
        self.tell(peer, number, together=False)
