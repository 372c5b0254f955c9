"""Finds a run's last step: every node reports the step at which it can stop, and the latest is taken (see
gannet.node.process.last_step).

Lost nodes are not waited for, nor nodes that do not answer: these hang, since an answer does not wait for training.
"""

from __future__ import annotations

from collections.abc import Collection

# The most that one check counts for: if the whole machine stood still, answers come as soon as it continues.
_LOOK_S = 1.0


class Stopping:
    """The controller's part. `patience_s`: time for a node to answer. Times are of a monotonic clock."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._looked_s: float | None = None
        self._waited_s = 0.0
        self.answers: dict[int, int] = {}
        self.last_step: int | None = None

    def ask(self, now_s: float) -> bool:
        """Whether to ask the nodes now; true once per run."""
        if self._looked_s is not None:
            return False
        self._looked_s = now_s
        return True

    def answer(self, rank: int, step: int) -> None:
        """Note that a node continues to that step at most until it receives the last one."""
        self.answers[rank] = step

    def name(self, alive: Collection[int]) -> int | None:
        """The last step, once all present nodes have answered and it has not been named before."""
        if self._looked_s is None or self.last_step is not None or not alive or self._missing(alive):
            return None
        self.last_step = max(self.answers[rank] for rank in alive)
        return self.last_step

    def held(self, rank: int, there: int) -> bool:
        """Whether a node, which has made step `there`, is waiting to receive the last step."""
        return self.last_step is None and rank in self.answers and there >= self.answers[rank]

    def silent(self, alive: Collection[int], now_s: float) -> list[int]:
        """Nodes that have not answered for too long. To be called repeatedly."""
        if self._looked_s is None or self.last_step is not None:
            return []
        self._waited_s += min(now_s - self._looked_s, _LOOK_S)
        self._looked_s = now_s
        return self._missing(alive) if self._waited_s > self._patience_s else []

    def _missing(self, alive: Collection[int]) -> list[int]:
        return sorted(set(alive) - self.answers.keys())
