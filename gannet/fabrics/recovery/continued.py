"""The session of a run whose controller was away: nodes have trained on, and are taken back.

Links stay as their agents have them while no controller is there; now those apply that the schedule has for this
moment. Changes by hand end. A node that does not come within some time is lost. Where messages are encrypted, a node
that is lost from now on does not come back: the authority of the run's certificates was in the former controller's
memory alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from gannet.fabrics.job import Job, MayBeAway, Sink
from gannet.fabrics.links.operator_server import Operator
from gannet.fabrics.on_loss import tell_left
from gannet.fabrics.recovery.past import Past
from gannet.fabrics.session.events import CameAgain, Event
from gannet.fabrics.session.node_host import NodeHost
from gannet.fabrics.session.preparation import links_of
from gannet.fabrics.session.session import Session

log = logging.getLogger(__name__)

_COME_S = 45.0
"""For a node that is there to come: it looks for the controller every few seconds."""


def session_of(job: Job, sink: Sink, node_host: NodeHost, engine: str, operator: Operator) -> Session:
    """The session of a run that begins, or that is to be taken up."""
    past = job.recovery.past if job.recovery is not None else None
    if past is None:
        return Session(job, sink, node_host, engine, operator)
    return ContinuedSession(job, past, sink, node_host, engine, operator)


class ContinuedSession(Session):
    """`past`: how the run was left behind."""

    def __init__(
        self, job: Job, past: Past, sink: Sink, node_host: NodeHost, engine: str, operator: Operator | None = None
    ) -> None:
        if job.encrypted:
            job = replace(job, return_after_s=None, on_not_finite="leave")
        super().__init__(job, sink, node_host, engine, operator)
        self._past, self._until_s, self._away = past, 0.0, ""

    def prepare(self) -> None:
        """Take the run up: links, controller, and what is known of the nodes."""
        job, past = self.job, self._past
        self.began = time.monotonic() - (past.now_s() - job.begin_s)
        self.outcome.environment |= past.facts["environment"]
        self.outcome.setup_s = past.facts["setup_s"]
        self.node_host.open(job, self.sink)
        links, changes = job.links_at(past.now_s())
        here = replace(job, links=links, changes=changes)
        self.live = links_of(here, self.node_host, self.engine, self.edges)
        self.live.apply()
        for rank, step in past.steps.items():
            self.steps[rank], self.t_s[rank] = step, past.t_s[rank]
        self.ready, self.lost, self.stop_wanted = dict(past.ready), dict(past.lost), past.stopping
        self.alive = set(range(job.world)) - self.lost.keys() - past.finished
        self.stopping.last_step = past.last_step
        self.watch(past.certificate, self._reasons)
        self.awaited = set(self.alive)
        self.controller = self.node_host.controller(job)
        self.controller.expect_again(past.known, past.finished)
        self.controller.start(self.node_host.serve_at)
        self._until_s = time.monotonic() + _COME_S

    def _reasons(self) -> list[str]:
        assert self.live is not None
        return [self._away, *self.live.reasons()]

    def start(self) -> None:
        """The nodes train already."""
        assert self.live is not None
        now_s = self.now_s()
        self._away = (
            f"the controller was away from {self._past.away_s:.1f} to {now_s:.1f} s of training: links were neither "
            "watched nor changed meanwhile"
        )
        log.warning("%s", self._away)
        self.sink.links({"t_s": now_s, "event": "controller-away", "from_s": self._past.away_s, "detail": self._away})
        self.live.start(now_s)
        for rank, report in self._past.reports:
            if report.WhichOneof("kind") in ("finished", "failed", "refused") and rank not in self.lost:
                self._hear(rank, report)
        for rank, agent in enumerate(self.node_host.agents):
            if rank in self.awaited and isinstance(agent, MayBeAway) and agent.away:
                self._lose(rank, agent.away)

    def _handle(self, event: Event) -> None:
        if isinstance(event, CameAgain):
            self._greet(event.rank)
        super()._handle(event)

    def _greet(self, rank: int) -> None:
        """Tell a node that came again what it may have missed; it knows some of it already."""
        assert self.controller is not None
        if rank in self.lost:
            self.controller.order(rank, abort={"reason": f"this node was given up: {self.lost[rank]}"})
            return
        self.awaited.discard(rank)
        self.waits.moves(rank)
        log.info("node %d trained on, and is here", rank)
        for other, reason in self.lost.items():
            self.controller.order(rank, peer_lost={"rank": other, "reason": reason})
        for other in self._past.finished:
            tell_left(self.controller, self.job, other)
        if self._past.last_step is not None:
            self.controller.order(rank, stop_after={"step": self._past.last_step})

    def _lose_who_hangs(self) -> None:
        if time.monotonic() > self._until_s:
            for rank in sorted(self.awaited):
                self._lose(rank, "it did not come back to the controller, which was away")
        super()._lose_who_hangs()

    def _held(self, rank: int) -> bool:
        return rank in self.awaited or super()._held(rank)

    def _lose(self, rank: int, reason: str, not_finite: bool = False) -> None:
        self.awaited.discard(rank)
        super()._lose(rank, reason, not_finite)
