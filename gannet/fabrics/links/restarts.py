"""Starts link agents again that have ended, and has them apply their node's links."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gannet.fabrics.links.agent_pool import AgentPool
from gannet.fabrics.links.echoes import Echoes
from gannet.fabrics.links.monitor import Lines
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.stack import Stack


class Restarts:
    """Until its agent is back, a node's links stay as they were when it ended, see docs/links.md."""

    def __init__(
        self,
        pool: AgentPool,
        engine: str,
        stack: Stack,
        echoes: Echoes,
        lines: Lines,
        now_s: Callable[[], float],
    ) -> None:
        self._pool, self._engine, self._stack = pool, engine, stack
        self._echoes, self._lines, self._now_s = echoes, lines, now_s

    def restart(self, plans: Sequence[InterfacePlan]) -> None:
        """Start the agents that were lost again, where their nodes allow it, and record that in the run folder."""

        def set_up(rank: int) -> None:
            self._pool.ask(rank, "apply", engine=self._engine, plan=plans[rank].to_json())
            self._pool.ask(rank, "stack", **self._stack.model_dump())
            self._pool.ask(rank, "probe_serve", address=plans[rank].address)
            self._echoes.resume(rank)

        for rank, error in self._pool.restart_lost(set_up).items():
            what = error or f"node {rank}: its link agent was started again, and its links applied"
            event = "agent-lost" if error else "agent-restarted"
            self._lines.put({"t_s": self._now_s(), "event": event, "node": rank, "detail": what})
