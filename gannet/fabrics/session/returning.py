"""The controller's part when a lost node comes back: one at a time, from its process's start to its first step.

    start      its process is started, or has come by itself (containers), and builds
    state      a neighbour offers its state after its next step, and the node fetches it over the links
    meeting    all nodes stop after one step (see gannet.node.process.meeting)
    enter      the node takes that step and its rounds; then all continue

Training continues until the meeting, which takes a step. Whatever goes wrong with the node that comes back ends the
attempt and nothing else; the next one begins after the same time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from math import inf
from typing import Any, Protocol

from gannet.fabrics.job import Job
from gannet.fabrics.not_finite import NotFinite
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.node_host import Failed, NodeHost
from gannet.node.config import NodeConfig
from gannet.node.topologies.weights import Edge
from gannet.node.wire import control_pb2

log = logging.getLogger(__name__)

_TRY_AGAIN_S = 1.0  # after a failed attempt to join
_ATTEMPT_S = 180.0  # for a process to start, build and fetch its neighbour's state


class Surroundings(Protocol):
    """The session as a return sees it."""

    controller: Controller | None
    node_host: NodeHost
    ready: dict[int, Any]
    alive: set[int]
    steps: dict[int, int]
    lost: dict[int, str]
    edges: list[Edge]

    def now_s(self) -> float:
        """The training clock."""
        ...

    def came_back(self, rank: int, neighbour: int, step: int) -> None:
        """A node trains again, after that step."""
        ...

    def released(self) -> None:
        """Nodes that were held at a meeting continue."""
        ...


class Returning:
    """`after_s`: how long after its loss a node is started again; None: lost nodes stay away. `not_finite`: the same
    for nodes whose numbers went wrong.
    """

    def __init__(
        self, session: Surroundings, after_s: float | None, config: NodeConfig, not_finite: NotFinite | None = None
    ) -> None:
        self._session, self._after_s, self._max_steps = session, after_s, config.max_steps
        self._not_finite = not_finite or NotFinite("leave", after_s)
        self._delays_s: dict[int, float | None] = {}  # from the loss to the next start, by rank
        # A node that hangs on its way to a meeting is waited for no longer: found out as ever, once all continue.
        self._meeting_s = 2 * config.exchange.patience_s
        self._due: dict[int, float] = {}  # by rank, monotonic s
        self._new: set[int] = set()  # nodes that have not been there yet
        self._over = False
        self.paused = False  # while nodes train without each other, no lost one comes back
        self._clear()

    def _clear(self) -> None:
        self.rank: int | None = None  # who is coming back
        self._neighbour: int | None = None
        self._until_s = 0.0
        self._answers: dict[int, int] | None = None
        self._met: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._called = False  # whether the step of the meeting has been named
        self._enter: tuple[int, tuple[int, ...]] | None = None

    @property
    def meeting(self) -> bool:
        """Whether nodes have been asked to meet: nothing else can be agreed on meanwhile."""
        return self._answers is not None

    def held(self, rank: int) -> bool:
        """Whether that node is at the step of the meeting, or waits to hear it."""
        return self._answers is not None and self._session.steps[rank] >= self._answers.get(rank, inf)

    def join_later(self, job: Job) -> dict[int, str]:
        """Training begins without the nodes of `job.join_at_s`, which begin to come in at their time; why they are
        missing, by rank.
        """
        self._new = set(job.join_at_s)
        for rank, at_s in job.join_at_s.items():
            self._delays_s[rank] = _TRY_AGAIN_S
            self._due[rank] = time.monotonic() + at_s - self._session.now_s()
        return {rank: job.not_yet_there(rank) for rank in job.join_at_s}

    def new(self, rank: int) -> bool:
        """Whether a node that is there now is there for the first time; asked once."""
        first, self._new = rank in self._new, self._new - {rank}
        return first

    def lose(self, rank: int, not_finite: bool = False) -> None:
        """A node is lost; call it for the node that comes back as well."""
        self._delays_s[rank] = self._not_finite.back_after_s(rank) if not_finite else self._after_s
        if rank == self.rank:
            self._fail("it was lost again")
        elif self.rank is not None and self._neighbour == rank and not self.meeting:
            self._ask_neighbour()
        if rank in self._session.lost:
            self._start_later(rank)
        self._look()

    def stop(self) -> None:
        """The run is to end: nobody comes back any more. A meeting that has been called is held."""
        self._over = True
        self._due.clear()
        if self.rank is not None and not self.meeting:
            self._fail("the run ends")

    def interrupt(self, why: str) -> None:
        """Links are cut that the node coming back may need: it is tried again later."""
        if self.rank is not None:
            self._fail(why)

    def tick(self) -> None:
        """Start who is due, and give up who takes too long; to be called repeatedly."""
        now_s = time.monotonic()
        if self.rank is not None:
            if now_s > self._until_s:
                late = "the others did not meet" if self.meeting else "it was not there"
                self._fail(f"{late} within {self._meeting_s if self.meeting else _ATTEMPT_S:.0f} s")
            return
        due = next((rank for rank, at_s in sorted(self._due.items()) if now_s >= at_s), None)
        if due is None or self._over or self.paused or self._session.controller is None:
            return
        del self._due[due]
        self.rank, self._until_s = due, now_s + _ATTEMPT_S
        self._session.ready.pop(due, None)
        self._session.controller.expect_back(due)
        try:
            self._session.node_host.revive(due)
        except (Failed, RuntimeError, OSError) as error:
            self._fail(str(error))

    def hear(self, rank: int, report: Any) -> bool:
        """Take a report, if it is about a return."""
        kind = report.WhichOneof("kind")
        if rank == self.rank and kind in ("ready", "warmed", "state_fetched", "failed"):
            self._hear_newcomer(kind, report)
            return True
        match kind:
            case "state_offered" if rank == self._neighbour:
                there = self._there()
                addresses, names = [each.mesh_address for each in there], [each.name for each in there]
                self._order_newcomer(fetch_state={"neighbour": rank, "mesh_addresses": addresses, "names": names})
            case "can_meet" if self._answers is not None:
                self._answers[rank] = report.can_meet.step
                self._look()
            case "at_meeting":
                self._met[rank] = report.at_meeting.step, tuple(report.at_meeting.rounds)
                self._look()
            case "state_offered" | "can_meet":
                pass  # of an attempt that has failed
            case _:
                return False
        return True

    def left(self, rank: int) -> bool:
        """Whether it was the node that comes back whose connection ended."""
        if rank != self.rank:
            return False
        self._fail(self._session.node_host.how_ended(rank) or "its connection ended")
        return True

    def _hear_newcomer(self, kind: str, report: Any) -> None:
        if kind == "ready":
            assert self.rank is not None
            self._session.ready[self.rank] = report.ready
            self._ask_neighbour()
        elif kind == "state_fetched":
            self._answers, self._until_s = {}, time.monotonic() + self._meeting_s
            self._order(self._session.alive, where_to_meet={})
            self._look()
        elif kind == "warmed":
            self._proceed()
        else:
            self._fail(report.failed.reason)

    def _ask_neighbour(self) -> None:
        assert self.rank is not None
        if self.rank not in self._session.ready:
            return
        near = [a for a, b in self._session.edges if b == self.rank and a in self._session.alive]
        self._neighbour = next(iter(sorted(near) or sorted(self._session.alive)), None)
        if self._neighbour is not None:
            there = self._session.ready[self.rank]
            self._order([self._neighbour], give_state={"rank": self.rank, **_place(there)})

    def _look(self) -> None:
        """Take the next step of a meeting, if all have answered or come; call it as well when a node is lost."""
        alive = self._session.alive
        if self._answers is None or self._enter is not None:
            return
        if not alive:
            self._fail("no node is left")
        elif not self._met and alive <= self._answers.keys() and not self._called:
            step = max(self._answers[rank] for rank in alive)
            if self._max_steps is not None and step >= self._max_steps:
                self._fail("the run ends first")
                return
            self._called = True
            self._order(alive, meet_at={"step": step})
        elif self._called and alive <= self._met.keys():
            here = [self._met[rank] for rank in alive]
            if len({len(rounds) for _, rounds in here}) > 1:
                self._fail("the nodes that met do not have the same players")
                return
            rounds = tuple(max(each) for each in zip(*(met[1] for met in here), strict=True))
            self._enter = max(met[0] for met in here), rounds
            step, rounds = self._enter
            self._order_newcomer(enter={"step": step, "rounds": rounds, "t_s": self._session.now_s()})

    def _proceed(self) -> None:
        if self.rank is None or self._enter is None or self._neighbour is None:
            return
        (step, rounds), rank, neighbour = self._enter, self.rank, self._neighbour
        there = self._session.ready[rank]
        back = {"step": step, "rounds": rounds, "returned": rank, **_place(there)}
        self._order(self._session.alive, proceed=back)
        self._order_newcomer(start={})
        self._clear()
        self._session.came_back(rank, neighbour, step)
        self._session.released()

    def _fail(self, why: str) -> None:
        rank, meeting = self.rank, self.meeting
        assert rank is not None
        log.warning("node %d does not come %s: %s", rank, "in" if rank in self._new else "back", why)
        if self._session.controller is not None:
            self._session.controller.order(rank, abort={"reason": why})
        if meeting:
            self._order(self._session.alive, meet_at={"step": 0})
            self._session.released()
        self._clear()
        if not self._over:
            self._start_later(rank)

    def _start_later(self, rank: int) -> None:
        if (delay_s := self._delays_s.get(rank, self._after_s)) is not None:
            self._due[rank] = time.monotonic() + delay_s

    def _there(self) -> list[Any]:
        """What each node has said when it was ready, by rank; of those that are lost nothing."""
        session = self._session
        there, all_ranks = session.alive | {self.rank}, session.alive | session.lost.keys() | session.ready.keys()
        return [session.ready[rank] if rank in there else control_pb2.Ready() for rank in range(max(all_ranks) + 1)]

    def _order_newcomer(self, **kind: Any) -> None:
        assert self.rank is not None
        self._order([self.rank], **kind)

    def _order(self, ranks: Iterable[int], **kind: Any) -> None:
        assert self._session.controller is not None
        for rank in ranks:
            self._session.controller.order(rank, **kind)


def _place(ready: Any) -> dict[str, str]:
    """Where a node is, and by which certificate it is known."""
    return {"mesh_address": ready.mesh_address, "name": ready.name}
