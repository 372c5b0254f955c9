"""The virtual fabric: all nodes in one process, on a virtual clock, over links that are a model.

A discrete-event loop drives every node's training coroutine. A gradient takes `pace_ms` of virtual time; a message
takes its fair share of its sender's uplink and its receiver's downlink, and then the path's delay (see
gannet.fabrics.virtual.link_model), all of which may change while it does. Nothing sleeps and nothing races, so a run
is deterministic to the bit and faults happen at exactly the given time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from torch import Tensor

from gannet.fabrics.job import Job, Outcome, Sink, all_lost, change_line, lost_line, recorded
from gannet.fabrics.links.silent_links import SilentLinks
from gannet.fabrics.not_finite import NotFinite
from gannet.fabrics.on_loss import stopped_by_loss, tell_nodes_left
from gannet.fabrics.session.cut_edges import cut_edges
from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.faults import AtAwait, Fault, Kill, Pause, Return, Timed
from gannet.fabrics.virtual.garbage import fewer_searches
from gannet.fabrics.virtual.islands import Islands
from gannet.fabrics.virtual.joins import Joins
from gannet.fabrics.virtual.link_model import LinkModel, check_modelled
from gannet.fabrics.virtual.messages import Messages
from gannet.fabrics.virtual.node import Node
from gannet.fabrics.virtual.patience import Patience
from gannet.fabrics.virtual.performing import WAITING, WAITS, Performer
from gannet.fabrics.virtual.returning import Returning
from gannet.fabrics.virtual.turns import VirtualTurns
from gannet.netem.measure.certificate import Certificate, expected_edge
from gannet.node.exchange.async_mailbox import AsyncMailbox
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.players.config import check_returns
from gannet.node.tasks.base import AnyTask
from gannet.node.traffic.exchange import exchange_edges
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import Effect, Met
from gannet.node.training.meter import StepStats
from gannet.node.training.peers import CollectiveFailed, Diverged, OutOfRange
from gannet.node.training.worker import Worker


class _Ended(Exception):
    """Thrown into a node's coroutine when the node or the run is over."""


class _Simulation:
    def __init__(
        self,
        job: Job,
        sink: Sink,
        faults: Sequence[Fault],
        tasks: Sequence[AnyTask] | None,
        on_send: Callable[[int, int, int], None] | None,
        on_state: Callable[[int, Checkpoint], None] | None = None,
    ) -> None:
        self.job, self.sink, self._on_state = job, sink, on_state
        self.time = Timeline()
        self.lost: dict[int, str] = {}
        changes = sorted(job.changes, key=lambda change: change.at_s)
        self.links: LinkModel[Callable[[], None]] = LinkModel(
            job.plans, ((change.at_s, job.plans_of(change.links)) for change in changes)
        )
        edges, limits = exchange_edges(job.config, job.world), job.config.exchange
        self.silent_links = SilentLinks(sink, edges)
        self.turns = VirtualTurns(job.world, edges, limits, self.links, self.time)
        self._messages = Messages(self, self.turns, limits, min(plan.segments for plan in job.plans), on_send)
        self.carry, self.room = self._messages.carry, self._messages.room
        self._at_await: dict[tuple[int, int], list[Kill | Pause]] = {}
        self.failure: str | None = None
        self._not_finite, self._active = NotFinite(job.on_not_finite, job.return_after_s), job.world
        self._tasks, self.last_step = tasks, float(job.config.max_steps or inf)
        self.returning, self.patience = Returning(self), Patience(self, limits, job.begin_s)
        self.islands = Islands(self, cut_edges(job), [change.at_s for change in changes], job.config.max_steps)
        self._perform = Performer(self, self._messages).perform
        self.nodes: list[Node] = []
        for rank in range(job.world):
            worker = self._worker(rank)
            if job.resumed is not None:
                worker.go_on_from(Checkpoint.unpack(job.resumed.states[rank], f"checkpoint of node {rank}"))
            self.nodes.append(self._node(worker))
            self.time.at(worker.begin_s, partial(self.resume, self.nodes[rank], None, None))
        self.joins = Joins(self, job)
        for change, operation in recorded(changes):
            self.time.at(change.at_s, partial(sink.links, change_line(change, operation)))
        if job.stop_s is not None:
            self.time.at(job.stop_s, self.islands.stop_soon)
        for fault in faults:
            if isinstance(fault, AtAwait):
                self._at_await.setdefault((fault.rank, fault.number), []).append(fault.fault)
            else:
                self.time.at(fault.at_s, partial(self.strike, fault))

    def _worker(self, rank: int) -> Worker:
        task = None if self._tasks is None else self._tasks[rank]
        return Worker(self.job.config, rank, self.job.world, task, self.job.start_weights)

    def _node(self, worker: Worker) -> Node:
        kind, run = AsyncMailbox if self.job.config.asynchronous else Mailbox, self.job.config.run
        limits = worker.codecs, worker.largest_payload, worker.window_rounds
        mailbox = kind(run, worker.rank, self.job.world, worker.schema, *limits)
        mailbox.enter_rounds(worker.rounds)
        if self.job.config.on_loss == "reform":
            mailbox.losses()
        return Node(self, worker.rank, worker, mailbox)

    def revive(self, rank: int, state: Checkpoint, met: Met) -> None:
        """Have a lost node begin where the others meet, with a neighbour's state."""
        worker = self._worker(rank)
        worker.come_in(state, met, self.time.now_s)
        node = self.nodes[rank] = self._node(worker)
        del self.lost[rank]
        self.patience.readmit(rank)
        self.turns.readmit(rank)
        self.islands.edges.readmit(rank)
        for gone, reason in self.lost.items():
            node.mailbox.lose(gone, reason)
        for other in self.nodes:
            other.mailbox.readmit(rank)
            if other.done:
                node.mailbox.lose(other.rank, "it had made its last step before this node came back")
        self._active += 1
        self.sink.links(self.joins.line(rank, state.owner.rank, met.step))
        self.time.after(0.0, self.islands.stop_if_due)
        self.time.after(0.0, partial(self.resume, node, None, None))

    def proceed(self, node: Node, met: Met) -> None:
        """Have a node that met the others continue."""
        node.mailbox.enter_rounds(met.rounds)
        node.at_meeting = False
        self.patience.stood_still(node.rank)
        self.time.after(0.0, partial(self.resume, node, met, None))

    def run(self) -> None:
        self.silent_links.begin(self.job.plans, self.job.begin_s)
        try:
            while self.failure is None and self._active and self._step():
                pass
        finally:
            for node in self.nodes:
                self._end(node)

    def _step(self) -> bool:
        """Process the next event, if there is one: at one moment, events of nodes come before those of links."""
        soon_s = self.time.next_s
        if soon_s > self.time.now_s:
            links_s = self.links.next_s(self.time.now_s)
            if links_s <= soon_s:
                self.time.now_s = max(self.time.now_s, links_s)
                for arrives_s, deliver in self.links.advance(self.time.now_s) if links_s < inf else ():
                    self.time.at(arrives_s, deliver)
                return links_s < inf
        self.time.go_on()
        return True

    def _look(self) -> None:
        """A node has ended: others may have waited for it to meet them."""
        self.returning.look()
        self.islands.look()
        self.islands.resume()

    def interrupt(self, node: Node, why: Exception) -> None:
        """Raise an error in a node where it waits, now or when it waits next."""
        node.interrupted = why
        if node.waiting:
            self.resume(node, None, why)

    def _end(self, node: Node) -> None:
        """Unwind a node's coroutine. (close() would not reach the algorithm's async generator in Python 3.11.)"""
        if not node.ended and inspect.getcoroutinestate(node.coroutine) != inspect.CORO_CLOSED:  # by Ctrl-C in it
            node.ended = True
            with suppress(_Ended, StopIteration):
                node.coroutine.throw(_Ended())

    def resume(self, node: Node, answer: Any, lost: Exception | None) -> None:
        """Run a node until it waits for something that has not arrived yet."""
        while node.alive and not node.done and self.failure is None:
            if node.paused_until_s > self.time.now_s:
                self.time.at(node.paused_until_s, partial(self.resume, node, answer, lost))
                return
            node.waiting = False
            try:
                effect = node.coroutine.throw(lost) if lost else node.coroutine.send(answer)
            except StopIteration:
                node.done = node.ended = True
                self._active -= 1
                if self.job.config.on_loss == "reform":  # those still there no longer count on it
                    self.time.after(0.0, partial(tell_nodes_left, self.nodes, node.rank))
                self._look()
                return
            except (CollectiveFailed, Diverged, OutOfRange) as error:
                node.ended = True
                if isinstance(error, Diverged) and self._not_finite.contained:
                    self._lose(node.rank, str(error), 0.0, self._not_finite.back_after_s(node.rank))
                else:
                    self.failure = f"node {node.rank}: {error}"
                return
            node.awaited += 1
            if node.interrupted is not None and isinstance(effect, WAITING):
                answer, lost = None, node.interrupted
                continue
            node.waiting = isinstance(effect, WAITING)
            for fault in self._at_await.pop((node.rank, node.awaited), ()):
                self.strike(replace(fault, at_s=self.time.now_s))
            if node.paused_until_s > self.time.now_s:
                self.time.at(node.paused_until_s, partial(self._carry_out, node, effect))
                return
            answer, lost = self._perform(node, effect) if node.alive else WAITS, None
            if answer is WAITS:
                return

    def _carry_out(self, node: Node, effect: Effect[Any]) -> None:
        if node.alive and (answer := self._perform(node, effect)) is not WAITS:
            self.resume(node, answer, None)

    def strike(self, fault: Timed) -> None:
        match fault:
            case Return(rank):
                self.returning.begin(rank)
            case Pause(rank):
                node = self.nodes[rank]
                node.paused_until_s = max(node.paused_until_s, self.time.now_s + fault.for_s)
            case Kill():
                self._lose(fault.rank, f"ended at {fault.at_s:.1f} s", fault.notice_s, self.job.return_after_s)
            case _:
                self._messages.disturb(fault)

    def without(self, node: Node) -> None:
        """That node is not there, or no longer."""
        self._active, node.alive = self._active - (node.alive and not node.done), False
        self.turns.end(node.rank)
        self.room.lose(node.rank)
        self._end(node)

    def _lose(self, rank: int, reason: str, notice_s: float, back_after_s: float | None) -> None:
        struck = self.nodes[rank]
        self.without(struck)
        self.patience.moves(rank)
        if rank not in self.lost:
            self.sink.links(lost_line(self.time.now_s, rank, reason))
        self.lost.setdefault(rank, reason)
        if self.job.config.on_loss == "stop":
            self.failure = self.failure or stopped_by_loss(rank, struck.steps, reason)
        for node in self.nodes:
            if node.rank != rank:
                self.time.after(notice_s, partial(self._tell_lost, node, struck, reason))
        self.returning.lose(rank, back_after_s)
        self._look()

    def _tell_lost(self, node: Node, struck: Node, reason: str) -> None:
        if self.nodes[struck.rank] is struck:  # not if it is back already
            node.mailbox.lose(struck.rank, reason)
            self.turns.of[node.rank].lose(struck.rank)

    def on_step(self, rank: int, stats: StepStats) -> None:
        self.patience.moves(rank)
        self.sink.step(rank, stats)
        self.silent_links.step(rank, stats, self.lost)

    def on_snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        if self.sink.snapshot(rank, step, t_s, codec_bytes, x):
            self.islands.stop_soon()

    def on_checkpoint(self, rank: int, checkpoint: Checkpoint) -> None:
        if self._on_state is not None:
            self._on_state(rank, checkpoint)
        elif not self.lost and not self.islands.edges.closed:
            self.sink.checkpoint(rank, checkpoint.step, checkpoint.pack())


def run_virtual(
    job: Job,
    sink: Sink,
    faults: Sequence[Fault] = (),
    tasks: Sequence[AnyTask] | None = None,
    on_send: Callable[[int, int, int], None] | None = None,
    on_state: Callable[[int, Checkpoint], None] | None = None,
) -> Outcome:
    """Run a job on the virtual clock. `tasks`: one per rank, instead of those in the config.

    `on_send`: called with sender, receiver and payload bytes of each message. `on_state`: with a rank and each of its
    checkpoints, instead of `sink.checkpoint`, and after a loss too.
    Raises ValueError for what the link model lacks (loss, reordering) and for a missing pace.
    """
    check_modelled(job)
    returning = job.return_after_s is not None or job.on_not_finite == "reset"
    if returning or job.join_at_s or any(isinstance(fault, Return) for fault in faults):
        check_returns(job.config)
    with fewer_searches(job.world):
        simulation = _Simulation(job, sink, faults, tasks, on_send, on_state)
        certificate = Certificate([expected_edge(job.plans, *edge) for edge in exchange_edges(job.config, job.world)])
        sink.certificate(certificate)
        simulation.run()
    if simulation.failure is None and len(simulation.lost) == job.world:
        simulation.failure = all_lost(simulation.lost)
    if simulation.failure is not None:
        return Outcome("failed", simulation.failure, certificate=certificate, lost=simulation.lost)
    return Outcome("finished", simulation.islands.why_left, certificate=certificate, lost=simulation.lost)
