"""Whether a run continues when a node's numbers are no longer finite, and whether that node comes back.

A node whose gradient, or whose values to be sent, are not finite stops by itself: nothing of them reaches a peer.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

OnNotFinite = Literal["leave", "reset", "stop"]

RESET_AFTER_S = 1.0  # where lost nodes are not started again: at once, but not in a tight loop
RESETS = 3  # of one node in a run: numbers that go wrong again and again come from its data or from the settings


class NotFinite:
    """One run's rule. `return_after_s`: how long after any other loss a node is started again, if it is."""

    def __init__(self, rule: OnNotFinite, return_after_s: float | None) -> None:
        self._rule, self._after_s = rule, return_after_s
        self._resets: Counter[int] = Counter()

    @property
    def contained(self) -> bool:
        """Whether the node is given up as a lost one, and the others continue where their method can."""
        return self._rule != "stop"

    def back_after_s(self, rank: int) -> float | None:
        """When to start a node again whose numbers have gone wrong, from now on; None: it stays away."""
        self._resets[rank] += 1
        if self._resets[rank] > RESETS:
            return None
        return RESET_AFTER_S if self._rule == "reset" and self._after_s is None else self._after_s
