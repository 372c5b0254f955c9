"""The echoes by which link agents watch round trips during a run, as often as the links' rates allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from gannet.fabrics.links.agent_pool import AgentPool
from gannet.netem.links.plan import Edge, InterfacePlan

# Echoes take at most this share of the slowest rate, and are at least this far apart.
_ECHO_SHARE, _ECHO_S, _ECHO_BITS = 0.01, 1.0, 2 * 8 * 70


class Echoes:
    """Has the agents of `pool` send echoes over `edges`. `addresses`: of the nodes, by rank."""

    def __init__(self, pool: AgentPool, addresses: Sequence[str], edges: Collection[Edge]) -> None:
        self._pool, self._addresses, self._edges = pool, addresses, edges
        self._interval_s: float | None = None

    def follow(self, plans: Sequence[InterfacePlan], roughly: bool = False) -> None:
        """Set the interval that `plans` allow; `roughly`: only if it differs at least by a factor of two."""
        rates = [rate for plan in plans for rate in plan.rates_bps()]
        most = max(Counter(source for source, _ in self._edges).values(), default=0)
        interval_s = max(_ECHO_S, most * _ECHO_BITS / (_ECHO_SHARE * min(rates, default=10**9)))
        if roughly and self._interval_s and 0.5 < interval_s / self._interval_s < 2:
            return
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._pool.ask_all("watch", lambda rank: {"peers": self._peers(rank), "interval_s": interval_s})

    def resume(self, rank: int) -> None:
        """Have an agent that has started again send its echoes. Raises AgentError."""
        if self._interval_s is not None:
            self._pool.ask(rank, "watch", peers=self._peers(rank), interval_s=self._interval_s)

    def _peers(self, rank: int) -> list[str]:
        return [self._addresses[target] for source, target in self._edges if source == rank]

    def stop(self) -> None:
        """Stop the echoes."""
        if self._interval_s is not None:
            self._pool.ask_all("watch", lambda rank: {"peers": [], "interval_s": 1.0}, timeout_s=5.0)
