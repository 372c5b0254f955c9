"""The wait-for graph: distinguishes a peer that hangs from peers that merely wait for it.

Synchronous nodes stop together when one of them hangs, so no node's own deadline shows which one is at fault: a node
that waits for the hung one looks just as silent to its other neighbours. Each node that has run out of patience
reports which peer it waits for; following these reports leads to the node that neither moves nor waits.

A node that is well says that it waits once its step has lasted for its patience, whatever it then waits for (see
gannet.node.exchange.impatience). So it is suspected no sooner: where a message was lost, a neighbour's wait may have
begun long before the suspect's own step did.
"""

from __future__ import annotations

from math import inf


class WaitGraph:
    """The reports "rank waits for source", until the rank moves again."""

    def __init__(self) -> None:
        self._waits_for: dict[int, int] = {}
        self._since_s: dict[int, float] = {}  # when each node's present step began

    def waits(self, rank: int, source: int) -> None:
        """Note that `rank` has waited long for a message of `source`."""
        self._waits_for[rank] = source

    def moves(self, rank: int, now_s: float) -> None:
        """Note that `rank` has made a step, or is gone: it no longer waits."""
        self._waits_for.pop(rank, None)
        self._since_s[rank] = now_s

    def stood_still(self, rank: int, now_s: float) -> None:
        """Note that `rank` was held until now, for all to agree on something: that is no part of its step."""
        self._since_s[rank] = now_s

    def due_s(self, rank: int, patience_s: float) -> float:
        """Until when `rank` must have moved or said that it waits, if it is well."""
        return self._since_s.get(rank, -inf) + patience_s

    def waiting(self, rank: int) -> bool:
        """Whether that rank is known to wait."""
        return rank in self._waits_for

    def culprit(self, rank: int) -> int | None:
        """The node at the end of the chain from `rank`; None where the chain is a cycle."""
        seen: set[int] = set()
        while rank in self._waits_for:
            if rank in seen:
                return None
            seen.add(rank)
            rank = self._waits_for[rank]
        return rank
