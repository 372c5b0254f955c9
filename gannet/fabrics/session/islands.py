"""The controller's part when links are cut: which nodes train without each other, until all meet again.

    cut_off    both ends of an edge whose links have been cut for a while treat each other as lost
    meeting    once links are back, each island stops after a step of its own (see gannet.node.process.meeting)
    heal       nodes open new channels over the links that are back, and take the latest step and rounds
    proceed    all continue from there

Islands end a run each after a step of its own, which all leave under one number. Nodes of a method that waits for cut
links do not reach their last step: they are told to leave with what they have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Protocol

from gannet.fabrics.job import Outcome, Sink, healed_line, islands_line, left_line
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.cut_edges import GRACE_S, CutEdges, named
from gannet.fabrics.session.last_step import Stopping
from gannet.fabrics.session.returning import Returning
from gannet.netem.links.plan import InterfacePlan
from gannet.node.config import NodeConfig

log = logging.getLogger(__name__)


class Surroundings(Protocol):
    """The session as its islands see it."""

    controller: Controller | None
    sink: Sink
    alive: set[int]
    steps: dict[int, int]
    stopping: Stopping
    returning: Returning
    outcome: Outcome

    def now_s(self) -> float:
        """The training clock."""
        ...

    def released(self) -> None:
        """Nodes that were held continue."""
        ...


class Islands:
    """To be called from the session's loop: `tick` repeatedly, `hear` with every report."""

    def __init__(self, session: Surroundings, edges: CutEdges, config: NodeConfig) -> None:
        self._session, self.edges, self._max_steps = session, edges, config.max_steps
        self._meeting_s = 2 * config.exchange.patience_s
        self._plans: Sequence[InterfacePlan] | None = None
        self._retry_s = 0.0
        self._shown: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._answers: dict[int, int] | None = None
        self._called = False  # whether the islands' steps have been named
        self._met: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._healed: set[int] | None = None  # who has opened its channels
        self._pairs: list[tuple[int, int]] = []
        self._until_s = 0.0

    @property
    def meeting(self) -> bool:
        """Whether nodes have been asked to meet."""
        return self._answers is not None

    def held(self, rank: int) -> bool:
        """Whether that node is at the step of its island's meeting, or waits to hear it."""
        return self._answers is not None and self._session.steps[rank] >= self._answers.get(rank, inf)

    def tick(self, plans: Sequence[InterfacePlan], stopping: bool) -> None:
        """Follow the links that apply, by rank. `stopping`: the run is to end, and nodes meet no more."""
        now_s, session, alive = time.monotonic(), self._session, self._session.alive
        if plans is not self._plans:
            self._plans = plans
            self.edges.follow(plans, now_s)
        if pairs := self.edges.close(now_s):
            session.returning.interrupt("links are cut")
            for rank in sorted(alive):
                if others := [sum(pair) - rank for pair in pairs if rank in pair]:
                    self._order([rank], cut_off={"ranks": others, "reason": "the links between them are cut"})
            self._tell(islands_line(session.now_s(), self.edges.islands(alive), named(pairs)))
        if self.meeting:
            self._look()
            if self.meeting and self._healed is None and (stopping or now_s > self._until_s):
                self._order(alive, meet_at={"step": 0})
                session.released()
                self._retry_s = now_s + self._meeting_s
                self._clear()
        elif not stopping and session.returning.rank is None and self._due(now_s):
            self._answers, self._until_s = {}, now_s + self._meeting_s
            self._order(alive, where_to_meet={})
        session.returning.paused = self.meeting or self.edges.apart(alive)

    def _due(self, now_s: float) -> bool:
        return now_s >= self._retry_s and self.edges.healed(now_s, self._session.alive)

    def hear(self, rank: int, report: Any) -> bool:
        """Take a report, if it is about a meeting that this has called."""
        if self._answers is None:
            return False
        match report.WhichOneof("kind"):
            case "can_meet":
                self._answers[rank] = report.can_meet.step
            case "at_meeting":
                self._met[rank] = report.at_meeting.step, tuple(report.at_meeting.rounds)
            case "healed" if self._healed is not None:
                self._healed.add(rank)
            case _:
                return False
        self._look()
        return True

    def _look(self) -> None:
        """Take the meeting's next step, if all have answered or come."""
        alive = self._session.alive
        if self._answers is None:
            return
        if not self._called:
            if alive <= self._answers.keys():
                self._called = True
                for island in self.edges.islands(alive):
                    self._order(island, meet_at={"step": max(self._answers[rank] for rank in island)})
        elif self._healed is None:
            if alive and alive <= self._met.keys():
                self._heal(alive)
        elif alive <= self._healed or time.monotonic() > self._until_s:
            step, rounds = self._latest(self._met)
            self._order(alive, proceed={"step": step, "rounds": rounds})
            self._session.released()
            if self._pairs:
                line = healed_line(self._session.now_s(), self.edges.islands(alive), named(self._pairs), step)
                self._tell(line)
            self._clear()

    def _heal(self, alive: set[int]) -> None:
        self._healed, self._until_s = set(), time.monotonic() + self._meeting_s
        self._pairs = self.edges.open(alive)
        _, rounds = self._latest({rank: self._met[rank] for rank in alive})
        for rank in sorted(alive):
            others = [sum(pair) - rank for pair in self._pairs if rank in pair]
            self._order([rank], heal={"ranks": others, "rounds": rounds})

    @staticmethod
    def _latest(met: dict[int, tuple[int, tuple[int, ...]]]) -> tuple[int, tuple[int, ...]]:
        rounds = zip(*(rounds for _, rounds in met.values()), strict=True)
        return max(step for step, _ in met.values()), tuple(max(each) for each in rounds)

    # The end.

    def stop_soon(self) -> None:
        """End the run; to be called repeatedly."""
        session, now_s = self._session, time.monotonic()
        stopping, alive = session.stopping, session.alive
        if stopping.ask(now_s):
            self._order(alive, where_to_leave={})
        if (last := stopping.name(alive)) is not None:
            session.released()
            islands = self.edges.islands(alive)
            shown = last
            if len(islands) > 1:
                shown = max(last, *session.steps.values())
                shown = shown if self._max_steps is None else min(shown, self._max_steps)
            self._shown = shown
            for island in islands:
                step = max(stopping.answers[rank] for rank in island)
                self._order(island, stop_after={"step": step, "shown": shown if len(islands) > 1 else 0})
        waited_s = self.edges.waited_s(now_s)
        if self._shown is not None and not session.outcome.reason and waited_s >= GRACE_S and alive:
            line = left_line(session.now_s(), named(self.edges.cut - self.edges.closed), waited_s)
            session.outcome.reason = line["detail"]
            self._tell(line)
            self._order(alive, leave_now={"step": self._shown})

    def _tell(self, line: dict[str, Any]) -> None:
        log.info("%s", line["detail"])
        self._session.sink.links(line)

    def _order(self, ranks: Iterable[int], **kind: Any) -> None:
        assert self._session.controller is not None
        for rank in sorted(ranks):
            self._session.controller.order(rank, **kind)
