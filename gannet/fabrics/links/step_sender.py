"""Sends the steps of traces and ramps to the link agents: faster than a change that is read back from all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial

from gannet.fabrics.links.agent_pool import Acknowledgement, AgentPool
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.netem.links.plan import InterfacePlan

# How long a step of a trace waits for agents: until the next one is due, but within these.
_STEP_LEAST_S, _STEP_MOST_S = 0.05, 1.0


class StepSender:
    """Sends each agent of `pool` the plans that it lacks. `complain` takes reasons to distrust the links.

    `now_s`: the training clock.
    """

    def __init__(
        self, pool: AgentPool, engine: str, now_s: Callable[[], float], complain: Callable[[str], None]
    ) -> None:
        self._pool, self._engine, self._now_s, self._complain = pool, engine, now_s, complain
        self._sent: dict[int, InterfacePlan] = {}  # the last plan sent to each agent that it has not refused
        self._orders: dict[int, Future[None]] = {}  # the last step of each agent, answered or not
        self._failed: Counter[int] = Counter()  # steps that a node refused or took too long for

    def finish_steps(self) -> None:
        """Wait until the agents have answered: no step may arrive after the change that follows."""
        wait(self._orders.values(), _STEP_MOST_S)

    def applied(self, plans: Sequence[InterfacePlan], done: Sequence[Acknowledgement]) -> None:
        """Note what agents hold after a change that all were asked for."""
        self._sent = {a.rank: plans[a.rank] for a in done if a.ok and not a.gone}

    def reasons(self) -> list[str]:
        """Reasons to distrust the links of this run, besides those passed to `complain`."""
        return [
            f"node {rank}: {n} steps of a series were refused or late" for rank, n in self._failed.items() if n > 1
        ]

    def send(self, plans: Sequence[InterfacePlan], next_s: Callable[[], float]) -> dict[int, InterfacePlan]:
        """Send each agent its plan, if it has another one and is not busy with a step; returns the plans sent.

        The plan of an agent that was busy follows when it has answered, and with the next step at the latest.
        """
        told = {}
        for rank in self._pool.present():
            busy = rank in self._orders and not self._orders[rank].done()
            if not busy and self._sent.get(rank) != plans[rank]:
                told[rank] = self._sent[rank] = plans[rank]
                self._orders[rank] = self._pool.submit(partial(self._order, rank, told[rank]))
        left_s = next_s() - self._now_s()
        wait([self._orders[rank] for rank in told], min(max(left_s, _STEP_LEAST_S), _STEP_MOST_S))
        return told

    def _order(self, rank: int, plan: InterfacePlan) -> None:
        asked_s, complaint = time.monotonic(), ""
        try:
            self._pool.ask(rank, "apply", engine=self._engine, plan=plan.to_json(), check=False)
        except AgentGone:
            return  # the pool has reported the loss
        except AgentError as error:
            self._sent.pop(rank, None)
            complaint = str(error)
        if (took_s := time.monotonic() - asked_s) > _STEP_MOST_S:
            complaint = complaint or f"the change took {took_s:.1f} s"
        if complaint:
            self._failed[rank] += 1
            if self._failed[rank] == 1:  # a trace has ten steps a second: later failures are only counted
                told = f"node {rank}: links were not applied as configured at {self._now_s():.1f} s: {complaint}"
                self._complain(told)
