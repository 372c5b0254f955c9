"""Meetings: all nodes stop after one step, none past it, so that a node can come in between two steps.

The step is agreed on as a run's last one is (see gannet.node.process.last_step): every node names the end of the
exchange that it is in and does not go past it before it hears the step, which is the latest of all answers. There
each tells the rounds of its exchange and waits until all have. They then continue, and with them who came in.
"""

from __future__ import annotations

from collections.abc import Callable

from gannet.node.process.agreement import Agreement
from gannet.node.training.effects import Met


class Meeting(Agreement):
    """One node's part; see Agreement.

    `reach`, `due` and `wait` are for the training thread, the others for any.
    """

    def __init__(self, every: int, there: int) -> None:
        super().__init__(every, there)
        self._step: int | None = None
        self._met: Met | None = None

    def ask(self) -> int:
        """The first step from now on after which this node can meet the others: it ends with an exchange."""
        with self._changed:
            self._answer = self._next_end()
            self._step = self._met = None
            return self._answer

    def agree(self, step: int) -> None:
        """All nodes meet after this step."""
        with self._changed:
            self._step = step
            self._changed.notify_all()

    def cancel(self) -> None:
        """There will be no meeting: continue."""
        with self._changed:
            self._answer = self._step = None
            self._changed.notify_all()

    def proceed(self, met: Met) -> None:
        """All are there: continue with this step and these rounds."""
        with self._changed:
            self._met, self._there = met, met.step
            self._answer = self._step = None
            self._changed.notify_all()

    def due(self, step: int) -> bool:
        """Whether the meeting is after this step, the last that this node has made; waits where that is not known."""
        with self._changed:
            self._changed.wait_for(lambda: self._released or not self._held())
            return not self._released and self._step == step

    def wait(self, step: int, rounds: tuple[int, ...], arrived: Callable[[], None]) -> Met:
        """Say that this node is there, and wait for the others. A meeting that is cancelled changes nothing."""
        arrived()
        with self._changed:
            self._changed.wait_for(lambda: self._released or self._met is not None or self._step is None)
            met, self._met = self._met, None
            return met or Met(step, rounds)

    def _held(self) -> bool:
        return self._answer is not None and self._step is None and self._there >= self._answer
