"""One run on nodes that are processes: from applied links to the last node's goodbye.

It is the same for processes of this machine and for containers on many: a NodeHost provides the nodes and the
connections to their link agents. Order of a run: links applied → nodes built → links measured while nodes are idle
(the certificate) → channels warmed → training, with interfaces and engines watched → nodes leave.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from gannet.fabrics.job import Job, Outcome, Sink, all_lost, joined_line, lost_line, returned_line
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.operator_server import Operator
from gannet.fabrics.links.silent_links import SilentLinks
from gannet.fabrics.not_finite import NotFinite
from gannet.fabrics.on_loss import stopped_by_loss, tell_left
from gannet.fabrics.recovery.diary import diary_of
from gannet.fabrics.session.controller import Controller
from gannet.fabrics.session.cut_edges import cut_edges
from gannet.fabrics.session.events import Checkpointed, Deposited, Event, Joined, Left, Reported
from gannet.fabrics.session.findings import Findings
from gannet.fabrics.session.islands import Islands
from gannet.fabrics.session.last_step import Stopping
from gannet.fabrics.session.link_watch import LinkWatch
from gannet.fabrics.session.node_host import Failed, NodeHost
from gannet.fabrics.session.preparation import check_open, links_of, measured, prepare
from gannet.fabrics.session.returning import Returning
from gannet.fabrics.session.waits import Waits
from gannet.netem.measure.certificate import Certificate
from gannet.node.traffic.exchange import exchange_edges
from gannet.node.training.loop import progress
from gannet.node.training.meter import LAYERS
from gannet.node.wire.control_pb2 import Ready
from gannet.node.wire.step import from_message

log = logging.getLogger(__name__)

_BUILD_S = 180.0  # for all nodes to import, build and report ready
_LEAVE_S = 60.0
_POLL_S = 0.1


class Session:
    """One run: call `go` once, then `clear`."""

    def __init__(
        self, job: Job, sink: Sink, node_host: NodeHost, engine: str, operator: Operator | None = None
    ) -> None:
        self.job, self.sink, self.node_host, self.engine, self.operator = job, sink, node_host, engine, operator
        self.controller: Controller | None = None
        self.live: LiveLinks | None = None
        self.findings: Findings | None = None
        self.ready: dict[int, Any] = {}
        self.present = set(range(job.world)) - job.join_at_s.keys()  # when training begins
        self.warmed, self.alive = set[int](), set[int]()
        self.awaited: set[int] = set()  # of these, those that are not here yet: the controller was away
        self.diary = diary_of(job.recovery)
        self.lost: dict[int, str] = {}
        self.link_watch: LinkWatch | None = None
        self.steps = dict.fromkeys(range(job.world), job.resumed.step if job.resumed else 0)
        self.t_s = dict.fromkeys(range(job.world), job.begin_s)
        self.failure: str | None = None
        self.began: float | None = None
        self.edges = sorted(exchange_edges(job.config, job.world))
        self.silent_links = SilentLinks(sink, self.edges)
        self.waits = Waits(self, job)
        self.stop_wanted = False
        self.stopping = Stopping(job.config.exchange.patience_s)
        self.not_finite = NotFinite(job.on_not_finite, job.return_after_s)
        self.returning = Returning(self, job.return_after_s, job.config, self.not_finite)
        self.outcome = Outcome("failed")
        self.islands = Islands(self, cut_edges(job), job.config)

    def go(self) -> Outcome:
        """Run to the end, however it ends; only programming errors are raised."""
        begin = time.monotonic()
        log.info("%d nodes, engine %s", self.job.world, self.engine)
        try:
            self.prepare()
            self.outcome.setup_s = self.outcome.setup_s or time.monotonic() - begin
            self._train()
            self._say_goodbye()
            self.outcome.status = "finished"
            log.info("finished")
        except (Failed, RuntimeError, OSError) as failure:  # also errors of ip, an agent or the fork server
            self.outcome.status, self.outcome.reason = "failed", str(failure) or type(failure).__name__
            log.info("failed: %s", self.outcome.reason)
        except KeyboardInterrupt:
            self.outcome.status, self.outcome.reason = "stopped", "interrupted by the user"
        self.diary.close()
        self.outcome.lost = self.lost
        if self.findings is not None:  # with what was wrong with the links during training
            self.outcome.certificate = self.findings.certificate()
            self.sink.certificate(self.outcome.certificate)
        return self.outcome

    def clear(self) -> None:
        """Take everything of this run down; the next run needs the names."""
        if self.operator is not None:
            self.operator.detach()
        if self.live is not None:
            self.live.stop()
        if self.controller is not None:
            self.alive.clear()  # from here on a node's end is no loss
            self.controller.order(abort={"reason": "the run is over"})
            self._until(self.node_host.empty, 3.0)
            self.controller.stop()
        self.node_host.close()

    def prepare(self) -> None:
        """All up to training."""
        for stage in (self._links_up, self._build_nodes, self._certify, self._warm_up):
            stage()

    def _links_up(self) -> None:
        job, found = self.job, self.node_host.open(self.job, self.sink)
        self.outcome.environment |= {"engine": self.engine, "encrypted": job.encrypted, **found}
        self.live = links_of(job, self.node_host, self.engine, self.edges)
        check_open(self.edges, self.live.plans)
        self.live.apply()
        self.outcome.environment["stack"] = self.live.applied_stack

    def _build_nodes(self) -> None:
        job = self.job
        self.controller = self.node_host.controller(job)
        prepare(self.controller, job)
        address = self.controller.start(self.node_host.serve_at)
        self.alive = set(self.present)
        self.node_host.populate(address, self.sink)
        self._wait_for("to be ready", lambda: self.present <= self.ready.keys(), _BUILD_S)

    def _certify(self) -> None:
        assert self.live is not None
        certificate = measured(self.node_host.agents, self.live.plans, self.edges, self.sink)
        self.watch(certificate, self.live.reasons)

    def watch(self, certificate: Certificate, reasons: Callable[[], Sequence[str]]) -> None:
        """Watch the links from now on. `certificate`: as measured. `reasons`: to distrust them, so far."""
        assert self.live is not None
        self.outcome.certificate = certificate
        self.findings = Findings(certificate, reasons, self.sink.certificate)
        self.link_watch = LinkWatch(self.live, self.sink, self.findings)

    def _warm_up(self) -> None:
        assert self.controller is not None
        self.sink.phase("warming the channels")
        for rank in self.job.join_at_s:
            self.controller.order(peer_lost={"rank": rank, "reason": self.job.not_yet_there(rank)})
        ready = [self.ready.get(rank, Ready()) for rank in range(self.job.world)]
        addresses, names = [each.mesh_address for each in ready], [each.name for each in ready]
        self.controller.order(warm={"mesh_addresses": addresses, "names": names})
        patience_s = self.job.config.exchange.patience_s
        self._wait_for("to reach their peers", lambda: self.present <= self.warmed, 8 * patience_s)

    def start(self) -> None:
        """Have the training begin."""
        assert self.controller is not None and self.live is not None
        self.diary.began(self.job, self.outcome)
        self.live.start(self.job.begin_s)
        self.began = time.monotonic()
        self.controller.order(start={})
        log.info("training starts")

    def _train(self) -> None:
        assert self.controller is not None and self.live is not None and self.link_watch is not None
        self.sink.phase("")
        self.start()
        if self.operator is not None:
            self.operator.attach(self.job.config.run, self.live)
        quiet_since = time.monotonic()
        self.waits.begin()
        self.lost |= self.returning.join_later(self.job)
        while self.alive:
            if self._take_event(_POLL_S):
                quiet_since = time.monotonic()
            for rank, why in self.link_watch.look(self.alive).items():
                self._give_up(rank, why)
            if self.failure is not None:
                raise Failed(self.failure)
            if self.job.stop_s is not None and self.now_s() >= self.job.stop_s:
                self.stop_wanted = True
            if self.stop_wanted:
                self.returning.stop()
            self.islands.tick(self.live.plans, self.stop_wanted)
            if self.stop_wanted and not (self.returning.meeting or self.islands.meeting or self.awaited):
                self.islands.stop_soon()
                self.diary.last_step(self.stopping.last_step)
            self.returning.tick()
            self._lose_who_hangs()
            if time.monotonic() - quiet_since > self.job.config.exchange.liveness_s:
                raise Failed(f"no node has said anything for {self.job.config.exchange.liveness_s:.0f} s")
        if len(self.lost) == self.job.world:
            raise Failed(all_lost(self.lost))

    def _say_goodbye(self) -> None:
        assert self.controller is not None and self.live is not None and self.link_watch is not None
        if self.operator is not None:
            self.operator.detach()
        self.live.stop()
        self.link_watch.look(self.alive)
        self.controller.order(goodbye={})
        self._until(self.node_host.empty, _LEAVE_S)

    def _wait_for(self, what: str, done: Any, timeout_s: float) -> None:
        in_time = self._until(lambda: done() or self.lost or self.failure, timeout_s)
        if self.failure is not None:
            raise Failed(self.failure)
        if self.lost:
            said = "; ".join(f"node {rank}: {why}" for rank, why in sorted(self.lost.items()))
            raise Failed(f"{said}; see {self.node_host.logs}")
        if not in_time:
            raise Failed(f"waited {timeout_s:.0f} s for all nodes {what}; see {self.node_host.logs}")

    def _until(self, done: Any, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > end:
                return False
            self._take_event(_POLL_S)
        return True

    def _take_event(self, timeout_s: float) -> bool:
        assert self.controller is not None
        for rank, reason in self.node_host.ended():
            if rank in self.alive:
                self._lose(rank, reason)
        try:
            event = self.controller.events.get(timeout=timeout_s)
        except queue.Empty:
            return False
        self._handle(event)
        return True

    def _handle(self, event: Event) -> None:
        assert self.controller is not None
        match event:
            case Joined(rank, _, verifier):
                self.diary.joined(rank, verifier)
            case Reported(rank, report):
                if not report.HasField("step"):
                    self.diary.report(rank, report)
                self._hear(rank, report)
                self.controller.recorded(rank, report.number)
            case Deposited(rank, step, t_s, codec_bytes, x):
                if self.sink.snapshot(rank, step, t_s, codec_bytes, x):
                    self.stop_wanted = True
                    self.diary.stopping()
            case Checkpointed(rank, step, data) if not self.lost and not self.islands.edges.closed:
                if self.findings is not None:
                    self.findings.look(at_once=True)
                self.sink.checkpoint(rank, step, data)
            case Left(rank, reason) if reason and rank in self.alive:
                self._lose(rank, self.node_host.how_ended(rank) or reason)
            case Left(rank) if not self.returning.left(rank):
                self.alive.discard(rank)
            case _:
                pass
        if isinstance(event, (Checkpointed, Deposited)):
            event.done()

    def _hear(self, rank: int, report: Any) -> None:
        if self.islands.hear(rank, report) or self.returning.hear(rank, report):
            return
        match report.WhichOneof("kind"):
            case "ready":
                self.ready[rank] = report.ready
            case "warmed":
                self.warmed.add(rank)
            case "step":
                stats = from_message(report.step)
                if self.job.recovery is not None and stats.step <= self.steps[rank]:
                    return  # recorded before the controller was away
                self.steps[rank], self.t_s[rank] = stats.step, stats.t_s
                self.sink.step(rank, stats)
                self.silent_links.step(rank, stats, self.lost)
                self.waits.moves(rank)
            case "waiting":
                self.waits.hear(rank, report.waiting.source, report.waiting.together)
            case "can_leave":
                self.stopping.answer(rank, report.can_leave.step)
            case "finished":
                finished, sent = report.finished, self.outcome.sent_bytes
                self.outcome.memory_mb[rank] = finished.memory_mb
                for layer in LAYERS:
                    sent[rank, layer] = getattr(finished, f"{layer}_bytes")
                self.alive.discard(rank)
                tell_left(self.controller, self.job, rank)
            case "refused":
                refused = report.refused
                self.sink.refused(refused.sender, refused.receiver, refused.verdict, refused.detail)
            case "failed" if report.failed.not_finite and self.not_finite.contained and self.began is not None:
                self._give_up(rank, report.failed.reason, not_finite=True)
            case "failed":
                self.failure = self.failure or f"node {rank}: {report.failed.reason}"
                failed, words = report.failed, self.node_host.last_words(rank)
                log.error("node %d failed after step %d: %s\n%s", rank, failed.step, failed.reason, words)

    def _lose_who_hangs(self) -> None:
        for rank in self.waits.hanging(self._held):
            self._give_up(rank, f"it hangs: the others wait for it at step {self.steps[rank] + 1}")
        for rank in self.stopping.silent(self.alive, time.monotonic()):
            self._give_up(rank, "it hangs: it does not say where it can leave")

    def now_s(self) -> float:
        """The training clock; before training, where it will begin."""
        return self.job.begin_s + (0.0 if self.began is None else time.monotonic() - self.began)

    def _held(self, rank: int) -> bool:
        met = self.returning.held(rank) or self.islands.held(rank)
        return met or self.stopping.held(rank, progress(self.job.config, self.steps[rank], self.t_s[rank]))

    def released(self) -> None:
        """Nodes that were held continue: what they were to agree on is named, or given up."""
        self.waits.released()

    def _give_up(self, rank: int, reason: str, not_finite: bool = False) -> None:
        """End a node that runs; the others continue, where their algorithm can do without it."""
        assert self.controller is not None
        self.controller.order(rank, abort={"reason": f"this node was given up: {reason}"})
        self._lose(rank, reason, not_finite)

    def _lose(self, rank: int, reason: str, not_finite: bool = False) -> None:
        assert self.controller is not None
        self.alive.discard(rank)
        self.waits.moves(rank)
        self.lost[rank] = reason
        log.warning("node %d is lost: %s\n%s", rank, reason, self.node_host.last_words(rank))
        self.sink.links(lost_line(self.now_s(), rank, reason))
        if self.job.config.on_loss == "stop" and self.began is not None:
            self.failure = self.failure or stopped_by_loss(rank, self.steps[rank], reason)
        self.controller.order(peer_lost={"rank": rank, "reason": reason})
        self.returning.lose(rank, not_finite)

    def came_back(self, rank: int, neighbour: int, step: int) -> None:
        """A lost node trains again."""
        del self.lost[rank]
        self.islands.edges.readmit(rank)
        self.alive.add(rank)
        self.steps[rank] = step
        self.waits.moves(rank)
        log.info("node %d is back after step %d", rank, step)
        told = joined_line if self.returning.new(rank) else returned_line
        self.sink.links(told(self.now_s(), rank, neighbour, step))
