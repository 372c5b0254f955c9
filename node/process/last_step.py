"""Agreement on the last step: the same for all nodes, and chosen while they are at different steps.

Every node is asked where it can leave. It answers with the end of the exchange that it is in, and does not go past
that step before it receives the last step, which is the latest of all answers. So no node has gone past it, however
long questions, answers and orders are in flight. No earlier step is possible: the node that gave that answer is
already in that exchange.
"""

from __future__ import annotations

from gannet.node.process.agreement import Agreement


class LastStep(Agreement):
    """One node's part; see Agreement.

    Steps are counted as `progress` does. `reach` and `last_step` are for the training thread, the others for any.
    """

    def __init__(self, every: int, there: int) -> None:
        super().__init__(every, there)
        self._last: int | None = None
        self._shown: int | None = None

    def ask(self) -> int:
        """The first step from now on that ends with an exchange, so that a run ends on equal terms."""
        with self._changed:
            if self._answer is None:
                self._answer = self._next_end()
            return self._answer

    def tell(self, last: int, shown: int | None = None) -> None:
        """Set the last step, the same for all nodes; of islands, which have made different numbers of steps, for all
        of one, and `shown` is the number under which all leave theirs.
        """
        with self._changed:
            self._last, self._shown = last, shown
            self._changed.notify_all()

    @property
    def shown(self) -> int | None:
        """The number under which nodes leave their last step, where it is not each one's own."""
        with self._changed:
            return self._shown

    @property
    def held(self) -> bool:
        """Whether this node has reached the step that it named before the last step is known: it must wait."""
        with self._changed:
            return self._held()

    def last_step(self) -> int | None:
        """The last step, once it is known. Waits while this node is held, for as long as the messages take."""
        with self._changed:
            self._changed.wait_for(lambda: self._released or not self._held())
            return self._last

    def _held(self) -> bool:
        return self._answer is not None and self._there >= self._answer and self._last is None
