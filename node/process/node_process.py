"""The life of a node process: join the controller, build, warm up, train, report, leave.

Two threads share the work: this one trains, the other runs gRPC's event loop (exchange and control).
The training thread never waits for the loop except where the algorithm awaits a message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from gannet.node.config import NodeConfig
from gannet.node.exchange import GrpcExchange
from gannet.node.exchange.async_mailbox import AsyncMailbox
from gannet.node.exchange.blocking_mailbox import RunAborted
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.exchange.tls import NodeKey
from gannet.node.log_labels import label
from gannet.node.methods.base import load
from gannet.node.process.controller_client import ControlLine
from gannet.node.process.last_step import LastStep
from gannet.node.process.meeting import Meeting
from gannet.node.process.metrics import NodeMetrics
from gannet.node.process.place import Place
from gannet.node.process.returns import Returns
from gannet.node.process.sent_bytes import SentBytes
from gannet.node.process.step_reports import StepReports
from gannet.node.process.usage import proportional_set_mb
from gannet.node.process.wall_clock import WallClock
from gannet.node.traffic.exchange import exchange_edges
from gannet.node.traffic.players import steps_between
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import Met
from gannet.node.training.loop import progress, train
from gannet.node.training.meter import Meter
from gannet.node.training.peers import CollectiveFailed, Diverged, OutOfRange
from gannet.node.training.start import StartWeights
from gannet.node.training.worker import Worker
from gannet.node.wire import control_pb2

if TYPE_CHECKING:
    from gannet.node.process.torch_ddp import DdpMean

T = TypeVar("T")
log = logging.getLogger(__name__)
_LEAVE_S = 30.0  # for uploads and last messages, after training
NOT_WANTED = 4  # exit status: the controller has no place for this node


def live(place: Place, metrics: socket.socket | None = None) -> int:
    """Run one node to its end; returns the exit status (0: trained to the end).

    `metrics`: a listening socket at `place.metrics`, where the process cannot make it itself.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="grpc-loop", daemon=True)
    thread.start()
    try:
        return _Life(place, loop, metrics).run()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


class _Life:
    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop, metrics: socket.socket | None) -> None:
        self._place, self._loop, self._metrics_socket = place, loop, metrics
        self._orders: queue.SimpleQueue[control_pb2.Order | None] = queue.SimpleQueue()
        self._exchange: GrpcExchange | None = None
        self._collective: DdpMean | None = None
        self._last_step: LastStep | None = None
        self._returns: Returns | None = None
        self._metrics: NodeMetrics | None = None
        self._reports: StepReports | None = None
        self._refused_entry = False
        self._key = NodeKey()

    def run(self) -> int:
        self._line = self._in_loop(self._open_line())
        self._line.post(hello=self._place.hello(self._key.request()))
        try:
            assignment = self._order("assignment").assignment
            self._train(assignment)
            return 0
        except RunAborted as aborted:
            if self._refused_entry:
                return NOT_WANTED
            log.warning("the run was ended: %s", aborted)
            return 3
        except Exception as error:
            diverged = isinstance(error, Diverged)
            if diverged and self._metrics is not None:
                self._metrics.diverged()
            reason = str(error) or type(error).__name__
            # Where the reason alone may not be enough, the traceback goes into the node's log.
            expected = isinstance(error, (CollectiveFailed, Diverged, OutOfRange))
            step = self._reports.steps if self._reports is not None else 0
            log.error("failed after step %d: %s", step, reason, exc_info=not expected)
            self._line.post(failed=control_pb2.Failed(reason=reason, step=step, not_finite=diverged))
            self._linger()
            return 1
        finally:
            if self._collective is not None:
                self._collective.close()
            self._in_loop(self._close())

    async def _open_line(self) -> ControlLine:
        line = ControlLine(self._place.controller, self._place.credential, self._loop, identity=self._place.identity)
        self._attending = self._loop.create_task(self._attend(line))
        return line

    async def _attend(self, line: ControlLine) -> None:
        """Sort the controller's orders: those that concern a step are handled at once, the others in turn."""
        why = "the controller closed the line"
        try:
            async for order in line.orders():
                match order.WhichOneof("kind"):
                    case "where_to_leave" if self._last_step is not None:
                        line.post(can_leave=control_pb2.CanLeave(step=self._last_step.ask()))
                    case "stop_after" if self._last_step is not None:
                        self._last_step.tell(order.stop_after.step, order.stop_after.shown or None)
                    case "leave_now" if self._exchange is not None:
                        self._exchange.leave(order.leave_now.step)
                        if self._collective is not None:
                            self._collective.leave(order.leave_now.step)
                    case "peer_lost" if self._exchange is not None:
                        log.warning("rank %d is lost: %s", order.peer_lost.rank, order.peer_lost.reason)
                        self._exchange.lose(order.peer_lost.rank, order.peer_lost.reason)
                        if self._collective is not None:
                            self._collective.lose(order.peer_lost.rank, order.peer_lost.reason)
                        if self._metrics is not None:
                            self._metrics.lost(self._exchange.inbox.lost())
                    case "abort":
                        why = order.abort.reason
                        break
                    case "goodbye":
                        line.over()
                        self._orders.put(order)
                    case _ if self._returns is not None and self._returns.obey(order):
                        pass
                    case _:
                        self._orders.put(order)
        except grpc.aio.AioRpcError as error:
            self._refused_entry = error.code() is grpc.StatusCode.ALREADY_EXISTS
            why = f"the controller is gone: {error.details()} ({error.code().name})"
        except Exception as error:
            why = f"the controller is gone: {error}"
        line.give_up()
        if self._exchange is not None:
            self._exchange.inbox.abort(why)
        if self._collective is not None:
            self._collective.abort(why)
        if self._last_step is not None:
            self._last_step.release()
        if self._returns is not None:
            self._returns.meeting.release()
        self._why_closed = why
        self._orders.put(None)

    def _order(self, kind: str, timeout_s: float | None = None) -> control_pb2.Order:
        order = self._orders.get(timeout=timeout_s)
        while order is not None and order.WhichOneof("kind") == "peer_lost":  # this node has no exchange yet
            order = self._orders.get(timeout=timeout_s)
        if order is None:
            raise RunAborted(self._why_closed)
        if order.WhichOneof("kind") != kind:
            raise RunAborted(f"expected the order {kind!r}, got {order.WhichOneof('kind')!r}")
        return order

    def _train(self, assignment: control_pb2.Assignment) -> None:
        begin = time.monotonic()
        config = NodeConfig.model_validate_json(assignment.config_json)
        self._line.key = assignment.key
        weights = None
        if assignment.start_bytes:
            fetched = self._line.restore(assignment.rank, assignment.start_bytes, start=True)
            weights = StartWeights.unpack(self._in_loop(fetched), assignment.start_sha256)
        worker = Worker(config, assignment.rank, assignment.world, start_weights=weights)
        label(config.run, assignment.rank)
        log.info("joined as rank %d of %d, pid %d", assignment.rank, assignment.world, os.getpid())
        if assignment.checkpoint_bytes:
            fetched = self._line.restore(assignment.rank, assignment.checkpoint_bytes)
            worker.go_on_from(Checkpoint.unpack(self._in_loop(fetched), f"checkpoint of node {assignment.rank}"))
            log.info("resuming after step %d", worker.made)
        self._last_step = LastStep(steps_between(config), progress(config, worker.made, worker.begin_s))
        rehearse(worker)
        peers = worker.peers
        metrics = self._metrics = NodeMetrics(config.run, config.arm, worker.rank)
        host, _, port = self._place.metrics.rpartition(":")
        metrics_server, metrics_port = metrics.serve(host, int(port), self._metrics_socket)
        mailbox = (AsyncMailbox if config.asynchronous else Mailbox)(
            config.run,
            worker.rank,
            worker.world,
            worker.schema,
            worker.codecs,
            max_bytes=worker.largest_payload,
            window_rounds=worker.window_rounds,
        )
        if config.on_loss == "reform":  # from the beginning: others may know of a loss before this node does
            mailbox.losses()
        self._exchange = exchange = GrpcExchange(
            worker.rank,
            worker.world,
            mailbox,
            config.exchange,
            self._refused,
            self._waiting,
            peers.in_turns,
            self._key.credentials(assignment.certificate, assignment.authority),
        )
        if foreign := config.algorithm.traits.all_reduce:  # imported only now: that takes a second and memory
            self._collective = load(foreign)(
                config.algorithm, worker.task.layout, worker.rank, worker.world, config.exchange, self._waiting
            )
        mesh = self._in_loop(exchange.serve(self._place.mesh))
        setup_s = time.monotonic() - begin
        log.info("ready in %.1f s: %d parameters, messages at %s", setup_s, worker.task.size, mesh)
        self._line.post(
            ready=control_pb2.Ready(
                mesh_address=mesh,
                metrics_address=f"{host}:{metrics_port}",
                setup_s=setup_s,
                parameters=worker.task.size,
            )
        )
        edges = () if self._collective else exchange_edges(config, worker.world)
        incoming = {a for a, b in edges if b == worker.rank}
        outgoing = {b for a, b in edges if a == worker.rank}
        if assignment.returning:
            addresses = self._come_in(worker, exchange, outgoing)
        else:
            warm = self._order("warm").warm
            addresses = list(warm.mesh_addresses)
            self._in_loop(exchange.connect(addresses, outgoing, warm.names))
            exchange.warm_up(worker.opening(), incoming, outgoing)
        for player, number in enumerate(worker.rounds):
            exchange.inbox.enter_round(number, player)
        if self._collective is not None:
            # Rank 0 keeps gloo's store at the port after its exchange's.
            host, _, port = addresses[0].rpartition(":")
            self._collective.join(f"{host}:{int(port) + 1}", self._place.mesh_device)
            worker.keep("collective", self._collective)  # only now: joining averages zeros, which changes its state
        self._returns = Returns(Meeting(steps_between(config), worker.made), exchange, self._line, self._loop)
        self._line.post(warmed=control_pb2.Warmed())
        log.info(
            "connected: receives from %s, sends to %s", sorted(incoming) or "no peer", sorted(outgoing) or "no peer"
        )
        self._order("start")
        self._line.begin(config.run, worker.rank, assignment.controller_grace_s)
        log.info("training starts")
        exchange.inbox.impatience.moves()
        exchange.counters.begin(incoming | outgoing, worker.rounds)
        metrics.begin(incoming, outgoing, exchange.counters.read)
        wire = SentBytes(self._place.mesh_device)
        sent_before = (peers.codec_bytes, exchange.grpc_bytes)
        meter = Meter(
            clock=time.monotonic,
            network=lambda: (exchange.grpc_bytes, wire.read()),
        )
        clock = WallClock(exchange, meter, config.pace_s_of(worker.rank), self._collective, self._returns.meet)
        self._reports = StepReports(
            config, worker.rank, self._line, exchange, self._last_step, self._returns, metrics
        )
        steps = clock.run(train(worker, meter, self._reports))
        t_s = meter.t_s
        log.info("training ended after %d steps, %.1f s", steps, t_s)
        self._in_loop(exchange.drain(config.exchange.round_deadline_s))
        if self._collective is not None:
            self._collective.settle()
        finished = control_pb2.Finished(
            steps=steps,
            t_s=t_s,
            memory_mb=proportional_set_mb(),
            codec_bytes=peers.codec_bytes - sent_before[0],
            grpc_bytes=exchange.grpc_bytes - sent_before[1],
            interface_bytes=wire.read(),
        )
        self._in_loop(self._line.settle())
        self._line.post(finished=finished)
        self._linger()
        metrics_server.shutdown()

    def _come_in(self, worker: Worker, exchange: GrpcExchange, peers: set[int]) -> list[str]:
        """Take a neighbour's state, and the place that the others' meeting gives; returns the mesh addresses."""
        assert self._last_step is not None
        fetch = self._order("fetch_state").fetch_state
        addresses, names = list(fetch.mesh_addresses), list(fetch.names)
        self._in_loop(exchange.connect(addresses, peers, names))
        try:
            data = self._in_loop(exchange.fetch_state(addresses[fetch.neighbour], names[fetch.neighbour]))
        except grpc.aio.AioRpcError as error:  # that neighbour may be lost by now: the controller starts another try
            why = f"{error.code().name}: {error.details()}"
            raise RunAborted(f"the state of rank {fetch.neighbour} did not come: {why}") from None
        state = Checkpoint.unpack(data, f"state of node {fetch.neighbour}")
        self._line.post(state_fetched=control_pb2.StateFetched())
        enter = self._order("enter").enter
        worker.come_in(state, Met(enter.step, tuple(enter.rounds)), enter.t_s)
        self._last_step.reach(worker.made)
        for rank, address in enumerate(addresses):
            if not address:
                exchange.inbox.lose(rank, "it was lost before this node came back")
        log.info("coming back after step %d with the state of rank %d", enter.step, fetch.neighbour)
        return addresses

    def _linger(self) -> None:
        """Stay for the peers that still need this node's last messages, until the controller says goodbye."""
        try:
            self._order("goodbye", _LEAVE_S)
        except RunAborted:
            return
        except queue.Empty:
            if self._line.outbox.away:  # it has yet to learn how this node ended
                self._linger()

    def _refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        log.warning("refused a message from rank %d: %s: %s", sender, verdict, detail)
        if self._metrics is not None:
            self._metrics.refused(verdict)
        self._line.post(refused=control_pb2.Refused(sender=sender, receiver=receiver, verdict=verdict, detail=detail))

    def _waiting(self, source: int, number: int, together: bool = False) -> None:
        log.info("waiting for rank %d in round %d%s", source, number, ", as for others before" * together)
        self._line.post(waiting=control_pb2.Waiting(source=source, round=number, together=together))

    async def _close(self) -> None:
        if self._exchange is not None:
            await self._exchange.close()
        self._attending.cancel()
        await self._line.close()

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def rehearse(worker: Worker) -> None:
    """One gradient before the clock starts, undone: torch's set-up at its first one must not count as training."""
    state = worker.task.state()
    worker.task.gradient(worker.initial())
    worker.task.load_state(state)
