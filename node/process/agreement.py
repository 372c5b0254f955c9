"""What agreements on a step have in common: a node names the end of its exchange, and does not go past it unheard.

See gannet.node.process.last_step and gannet.node.process.meeting for what is agreed on.
"""

from __future__ import annotations

from threading import Condition


class Agreement:
    """One node's part. `every`: steps from one exchange to the next. `there`: the last step that it has made."""

    def __init__(self, every: int, there: int) -> None:
        self._every, self._there = every, there
        self._answer: int | None = None
        self._released = False
        self._changed = Condition()

    def reach(self, there: int) -> None:
        """This node has made that step."""
        with self._changed:
            self._there = there

    def release(self) -> None:
        """No answer will come any more: stop waiting for it."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def _next_end(self) -> int:
        """The first step from now on that ends with an exchange."""
        return self._every * (self._there // self._every + 1)
