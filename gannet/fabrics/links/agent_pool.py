"""All link agents of a run, asked together; remembers which are gone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from gannet.fabrics.job import LinkAgent, MayBeAway, Restartable
from gannet.fabrics.links.core_links import CoreLinks
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.netem.links.plan import InterfacePlan

_APPLY_S = 10.0
_ASK_S = 30.0
_MOST_RESTARTS = 5

Answer = dict[str, Any] | AgentError


@dataclass(frozen=True)
class Acknowledgement:
    """One agent's answer to a state of the links: what it has applied, and how that differs from the plan.

    `applied`: the answer to the agent's `read_back`. `error`: why there is no answer. `gone`: the agent was lost
    earlier and has not been asked. `seconds`: from request to answer.
    """

    rank: int
    seconds: float
    applied: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    gone: bool = False

    @property
    def differences(self) -> tuple[str, ...]:
        """Differences between the applied and the configured plan, in words."""
        return tuple(self.applied.get("differences", ()))

    @property
    def ok(self) -> bool:
        """Whether the agent has applied the configured plan. A node that was lost earlier is no failure."""
        return self.gone or not (self.error or self.differences)

    @property
    def complaint(self) -> str:
        """The problem, in one phrase; empty when there is none."""
        return "" if self.ok else self.error or "; ".join(self.differences)


class AgentPool:
    """Agents by rank. `on_lost(rank, why)` is called once for each that ends, by the thread that notices.

    `core`: limits the shared links that no node can (None: this fabric cannot).
    """

    def __init__(
        self, agents: Sequence[LinkAgent], on_lost: Callable[[int, str], None], core: CoreLinks | None = None
    ) -> None:
        self._agents, self._on_lost, self._core = list(agents), on_lost, core or CoreLinks()
        self._plans: Sequence[InterfacePlan] = ()
        self.gone = {
            rank: agent.away for rank, agent in enumerate(agents) if isinstance(agent, MayBeAway) and agent.away
        }
        self._restarts: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2 * len(agents) + 2, "links")

    def __len__(self) -> int:
        return len(self._agents)

    def present(self) -> dict[int, LinkAgent]:
        """The agents that are not gone, by rank."""
        return {rank: agent for rank, agent in enumerate(self._agents) if rank not in self.gone}

    def ask(self, rank: int, op: str, timeout_s: float = _ASK_S, **arguments: Any) -> dict[str, Any]:
        """Ask one agent. Raises AgentError."""
        try:
            return self._agents[rank].request(op, timeout_s=timeout_s, **arguments)
        except AgentGone as error:
            with self._lock:
                first = rank not in self.gone
                self.gone.setdefault(rank, str(error))
            if first:
                self._on_lost(rank, str(error))
            raise

    def restart_lost(self, set_up: Callable[[int], None]) -> dict[int, str]:
        """Start the agents again that are gone, where their nodes allow it, and have `set_up` give each its links.

        Returns, by rank, why that failed; an empty text: it has not. An agent that keeps ending is given up.
        """
        found: dict[int, str] = {}
        for rank in list(self.gone):
            agent = self._agents[rank]
            if not isinstance(agent, Restartable) or self._restarts[rank] >= _MOST_RESTARTS:
                continue
            self._restarts[rank] += 1
            try:
                agent.restart()
                set_up(rank)  # while it still counts as gone, so that nobody asks it before it has links
                del self.gone[rank]
                found[rank] = ""
            except (AgentError, OSError) as error:
                found[rank] = str(error)
        return found

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have a thread do the work."""
        return self._pool.submit(work)

    def ask_all(
        self, op: str, arguments: Callable[[int], dict[str, Any]] | None = None, timeout_s: float = _ASK_S
    ) -> dict[int, Answer]:
        """Ask all present agents at once; `arguments` by rank. Errors are returned as answers."""
        return self._gather(lambda rank: self.ask(rank, op, timeout_s, **(arguments(rank) if arguments else {})))

    def apply(self, engine: str, plans: Sequence[InterfacePlan], release: bool = False) -> list[Acknowledgement]:
        """Apply each plan at its agent, all at once, and read it back; shared links in the core before that.

        `release`: see gannet.netem.engines.base.Engine.
        """
        self._plans = plans
        wrong = self._core.apply(plans)
        done = self._acknowledged(lambda rank: self._apply(rank, engine, plans[rank], release))
        return [_with(each, wrong.get(each.rank, "")) for each in done]

    def read_back(self) -> list[Acknowledgement]:
        """Read back the plan that every node has applied, with the shared links in the core."""
        wrong = self.core_complaints()
        done = self._acknowledged(lambda rank: self.ask(rank, "read_back", _APPLY_S))
        return [_with(each, wrong.get(each.rank, "")) for each in done]

    def core_complaints(self) -> dict[int, str]:
        """What is wrong with the shared links in the core, by the ranks of their receivers."""
        return self._core.read_back(self._plans)

    def close(self) -> None:
        """End the threads. The agents are closed by their owner."""
        self._pool.shutdown(wait=False)

    def _apply(self, rank: int, engine: str, plan: InterfacePlan, release: bool) -> dict[str, Any]:
        self.ask(rank, "apply", _APPLY_S, engine=engine, plan=plan.to_json(), release=release)
        return self.ask(rank, "read_back", _APPLY_S)

    def _gather(self, ask: Callable[[int], dict[str, Any]]) -> dict[int, Answer]:
        def answer(rank: int) -> Answer:
            try:
                return ask(rank)
            except AgentError as error:
                return error

        jobs = {rank: self._pool.submit(answer, rank) for rank in self.present()}
        return {rank: job.result() for rank, job in jobs.items()}

    def _acknowledged(self, ask: Callable[[int], dict[str, Any]]) -> list[Acknowledgement]:
        begin_s, took_s = time.monotonic(), {}

        def timed(rank: int) -> dict[str, Any]:
            try:
                return ask(rank)
            finally:
                took_s[rank] = time.monotonic() - begin_s

        gone = dict(self.gone)
        done = [Acknowledgement(rank, 0.0, error=why, gone=True) for rank, why in gone.items()]
        for rank, found in self._gather(timed).items():
            if isinstance(found, AgentError):
                done.append(Acknowledgement(rank, took_s[rank], error=str(found)))
            else:
                done.append(Acknowledgement(rank, took_s[rank], found))
        return sorted(done, key=lambda acknowledgement: acknowledgement.rank)


def _with(answer: Acknowledgement, wrong: str) -> Acknowledgement:
    """The answer with another difference, if there is one."""
    if not wrong:
        return answer
    return replace(answer, applied={**answer.applied, "differences": [*answer.differences, wrong]})
