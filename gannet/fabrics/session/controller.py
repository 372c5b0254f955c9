"""The controller: keeps track of a run's nodes, assigns ranks, sends orders, takes reports and snapshots.

It serves gRPC off the shaped network from a separate thread and turns everything that happens
into events on one queue, which the fabric's main thread reads. Orders go out through `order`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import queue
import secrets
import threading
import zlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import Future
from math import isfinite
from typing import Any

import grpc
import grpc.aio
import numpy as np
import torch
from google.protobuf.message import DecodeError

from gannet.certs.run_authority import RunAuthority
from gannet.fabrics.credentials import async_gate, node_of, presented
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.recovery.known import Known, verifier_of
from gannet.fabrics.session.events import CameAgain, Checkpointed, Deposited, Event, Joined, Left, Reported
from gannet.fabrics.session.pace import paced
from gannet.fabrics.session.reports import LARGEST_STEP, wrong_size, wrong_with
from gannet.node.process.controller_client import KEEPALIVE, MESSAGE_LIMIT_BYTES, SNAPSHOT_CHUNK_BYTES
from gannet.node.training.start import StartWeights
from gannet.node.wire import control_pb2, control_pb2_grpc

log = logging.getLogger(__name__)


_TELL_EVERY_S = 0.5
_MOST_STREAMS = 16  # of one connection: a node has one line, and one deposit at a time


class Controller(control_pb2_grpc.ControllerServicer):
    """The server side of proto/control.proto for one run.

    `nodes`: the names of those that have a place in this run, by rank. A node shows its name by its credential, made
    with `secret` (gannet.fabrics.credentials). `grace_s`: how long nodes train on while no controller is there; they
    then keep what they send until it is `recorded`.
    """

    def __init__(self, run: str, config_json: str, secret: str, nodes: Sequence[str], grace_s: float = 0.0) -> None:
        self.run, self.world, self._config_json, self._secret = run, len(nodes), config_json, secret
        self._nodes = list(nodes)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lines: dict[int, asyncio.Queue[control_pb2.Order | None]] = {}
        self._finished: set[int] = set()
        self._returning: set[int] = set()
        self._verifiers: dict[int, str] = {}  # of the nodes' keys, by rank
        self._grace_s = grace_s
        self._awaited: set[int] = set()  # ranks of nodes that train on, and have yet to come
        self._recorded: dict[int, int] = {}  # the last recorded report, by rank
        self._telling: set[int] = set()
        self._parameters: dict[int, int] = {}  # by rank, as in Ready
        self._states: Sequence[bytes] = ()
        self._start, self._start_sha256 = b"", ""
        self._authority: RunAuthority | None = None
        self._names: dict[int, str] = {}  # of the nodes' present certificates, by rank
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="controller", daemon=True)
        self._server: grpc.aio.Server | None = None
        self.entrance = Entrance()  # another one may be put here until it serves

    def resume(self, states: Sequence[bytes]) -> None:
        """Have the nodes resume from these checkpoints, by rank; call it before they join."""
        self._states = states

    def begin_from(self, start: StartWeights) -> None:
        """Have the nodes begin from these weights; call it before they join."""
        self._start, self._start_sha256 = start.pack(), start.sha256

    def encrypt(self, authority: RunAuthority) -> None:
        """Give each node a certificate, for its messages to be encrypted; call it before they join."""
        self._authority = authority

    def expect_again(self, known: Mapping[int, Known], finished: Collection[int] = ()) -> None:
        """Take back the nodes of a run that is under way; call it before `start`. No other node has a place in it.

        `finished`: ranks that have said so.
        """
        self._awaited = set(known)
        self._finished = set(range(self.world)) - self._awaited | set(finished)
        for rank, was in known.items():
            self._verifiers[rank], self._parameters[rank] = was.verifier, was.parameters
            self._names[rank], self._recorded[rank] = was.name, was.recorded

    def recorded(self, rank: int, number: int) -> None:
        """A node's reports are recorded up to this number: it is told so within a moment."""

        def tell() -> None:
            self._telling.discard(rank)
            if rank in self._lines:
                received = control_pb2.Received(number=self._recorded[rank])
                self._lines[rank].put_nowait(control_pb2.Order(received=received))

        def note() -> None:
            self._recorded[rank] = number
            if rank not in self._telling:
                self._telling.add(rank)
                self._loop.call_later(_TELL_EVERY_S, tell)

        if self._grace_s > 0:
            self._loop.call_soon_threadsafe(note)

    def start(self, address: str) -> str:
        """Serve on host:port (port 0: any) or unix:/path; returns the address with its port."""
        self._thread.start()
        served: str = self._call(self._serve(address))
        return served

    def stop(self) -> None:
        """Close every connection and the server."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def expect_back(self, rank: int) -> None:
        """Let a lost node's rank be taken again, by a process that comes into the run under way."""

        def free() -> None:
            self._lines.pop(rank, None)
            self._finished.discard(rank)
            self._returning.add(rank)

        self._loop.call_soon_threadsafe(free)

    def order(self, rank: int | None = None, **kind: Any) -> None:
        """Send an order (one of Order's kinds by name) to a rank, or to all present nodes."""
        message = control_pb2.Order(**kind)

        def put() -> None:
            for to, line in self._lines.items():
                if rank is None or to == rank:
                    line.put_nowait(message)

        self._loop.call_soon_threadsafe(put)

    def _call(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    async def _serve(self, address: str) -> str:
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_concurrent_streams", _MOST_STREAMS),
            *KEEPALIVE,
        ]

        refusal = "this is no credential of a training process of this cluster"
        gate = async_gate(lambda credential: node_of(credential, self._secret), refusal)
        self._server = grpc.aio.server(options=options, interceptors=[gate])
        control_pb2_grpc.add_ControllerServicer_to_server(self, self._server)
        served = self.entrance.add(self._server, address)
        await self._server.start()
        return served

    async def _close(self) -> None:
        for line in self._lines.values():
            line.put_nowait(None)
        if self._server is not None:
            await self._server.stop(0.5)
        self.entrance.close()

    async def Attend(
        self, request_iterator: AsyncIterator[control_pb2.Report], context: Any
    ) -> AsyncIterator[control_pb2.Order]:
        """Serve one node's connection, from its Hello to its end."""
        try:
            first = await anext(aiter(request_iterator), None)
        except DecodeError:
            first = None
        if first is None or first.WhichOneof("kind") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a node begins with hello")
            return
        hello, name = first.hello, node_of(presented(context.invocation_metadata()), self._secret)
        line: asyncio.Queue[control_pb2.Order | None] = asyncio.Queue()
        if hello.HasField("again"):
            if not self._take_back(hello.again, name, line):
                why = "the controller does not continue that run with this node"
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
            async for order in self._serve_line(hello.again.rank, request_iterator, line):
                yield order
            return
        rank = next((rank for rank, node in enumerate(self._nodes) if node == name and rank not in self._lines), None)
        if rank is not None and rank in self._awaited:  # another process of that node: the one that trained is gone
            self._awaited.discard(rank)
            self.events.put(Left(rank, "its process ended while the controller was away"))
            rank = None
        if rank is None or (rank in self._finished and rank not in self._returning):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"this run has no free place for {name}")
            return
        certificate = authority = b""
        if self._authority is not None:
            authority = self._authority.certificate
            try:
                self._names[rank], certificate = self._authority.certify(rank, hello.certificate_request)
            except ValueError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no request for a certificate: {error}")
        key = secrets.token_hex(16)
        self._lines[rank], self._verifiers[rank] = line, verifier_of(key)
        self._parameters.pop(rank, None)
        self.events.put(Joined(rank, hello.pid, verifier_of(key)))
        yield control_pb2.Order(
            assignment=control_pb2.Assignment(
                run=self.run,
                rank=rank,
                world=self.world,
                config_json=self._config_json,
                checkpoint_bytes=len(self._states[rank]) if self._states else 0,
                start_bytes=len(self._start),
                start_sha256=self._start_sha256,
                key=key,
                returning=rank in self._returning,
                certificate=certificate,
                authority=authority,
                controller_grace_s=self._grace_s,
            )
        )
        async for order in self._serve_line(rank, request_iterator, line):
            yield order

    def _take_back(self, again: control_pb2.Again, name: str | None, line: asyncio.Queue[Any]) -> bool:
        rank = again.rank
        known = again.run == self.run and rank in self._awaited and self._nodes[rank] == name
        if not (known and self._is(rank, again.key)):
            return False
        self._awaited.discard(rank)
        self._lines[rank] = line
        line.put_nowait(control_pb2.Order(received=control_pb2.Received(number=self._recorded[rank])))
        self.events.put(CameAgain(rank))
        return True

    async def _serve_line(
        self, rank: int, reports: AsyncIterator[control_pb2.Report], line: asyncio.Queue[control_pb2.Order | None]
    ) -> AsyncIterator[control_pb2.Order]:
        reading = asyncio.create_task(self._read(rank, paced(reports), line))
        try:
            while (order := await line.get()) is not None:
                yield order
        finally:
            reading.cancel()

    async def _read(self, rank: int, reports: AsyncIterator[control_pb2.Report], line: asyncio.Queue[Any]) -> None:
        reason, refused = "its process ended", ""
        try:
            async for report in reports:
                kind = report.WhichOneof("kind")
                wrong = wrong_with(report, self.world)
                if kind == "ready" and rank in self._parameters:
                    wrong = "a second ready"
                if wrong is not None:
                    reason = refused = f"its report is refused: {wrong}"
                    return
                match kind:
                    case "finished":
                        self._finished.add(rank)
                    case "ready":
                        self._parameters[rank] = report.ready.parameters
                        report.ready.name = self._names.get(rank, "")
                self.events.put(Reported(rank, report))
        except DecodeError:
            reason = refused = "its report is refused: it is no message of proto/control.proto"
        except grpc.aio.AioRpcError as error:
            reason = f"its line broke: {error.code().name}"
        except asyncio.CancelledError:
            reason = "its line was closed"
            raise
        finally:
            if refused:
                log.warning("node %d: %s", rank, refused)
                line.put_nowait(control_pb2.Order(abort=control_pb2.Abort(reason=refused)))
            self.events.put(Left(rank, "" if rank in self._finished else reason))
            line.put_nowait(None)

    async def Restore(
        self, request: control_pb2.RestoreRequest, context: Any
    ) -> AsyncIterator[control_pb2.CheckpointChunk]:
        """Send a node's checkpoint, or the weights to begin from, chunk by chunk; the node checks the digest."""
        if not self._is(request.rank, request.key):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is not this rank's")
        if not request.start and request.rank >= len(self._states):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no checkpoint of rank {request.rank}")
        data = self._start if request.start else self._states[request.rank]
        for start in range(0, len(data), SNAPSHOT_CHUNK_BYTES):
            yield control_pb2.CheckpointChunk(data=data[start : start + SNAPSHOT_CHUNK_BYTES])

    async def Deposit(
        self, request_iterator: AsyncIterator[control_pb2.SnapshotChunk], context: Any
    ) -> control_pb2.DepositReceipt:
        """Receive a snapshot or a checkpoint, which is checked before it is kept."""
        try:
            return await self._receive(aiter(request_iterator))
        except DecodeError:
            return _refused("a chunk is no message of proto/control.proto")

    async def _receive(self, chunks: AsyncIterator[control_pb2.SnapshotChunk]) -> control_pb2.DepositReceipt:
        first = await anext(chunks, None)
        if first is None or not first.HasField("header"):
            return _refused("a deposit begins with a header")
        header, body = first.header, bytearray(first.data)
        if (wrong := self._wrong_with(header)) is not None:  # before anything of its body is kept
            return _refused(wrong)
        while len(body) <= header.bytes and (chunk := await anext(chunks, None)) is not None:
            body += chunk.data
        if len(body) > header.bytes:
            return _refused("more bytes than announced")
        if len(body) != header.bytes or zlib.crc32(body) != header.crc32:
            return _refused("bytes or checksum do not fit")
        recorded: Future[None] | None = Future() if self._grace_s > 0 else None
        if header.checkpoint:
            self.events.put(Checkpointed(header.rank, header.step, bytes(body), recorded=recorded))
        else:
            x = torch.from_numpy(np.frombuffer(body, dtype="<f4").copy())
            self.events.put(Deposited(header.rank, header.step, header.t_s, header.codec_bytes, x, recorded=recorded))
        if recorded is not None:  # a controller that ends before that gets it once more when it is back
            await asyncio.wrap_future(recorded)
        return control_pb2.DepositReceipt(accepted=True)

    def _is(self, rank: int, key: str) -> bool:
        return rank in self._verifiers and hmac.compare_digest(verifier_of(key), self._verifiers[rank])

    def _wrong_with(self, header: control_pb2.SnapshotHeader) -> str | None:
        """Why a deposit is not taken; the first reason tells a stranger nothing of the run."""
        if not self._is(header.rank, header.key):
            return "the key is not this rank's"
        if header.run != self.run:
            return "not of this run"
        if header.rank not in self._parameters:
            return "a deposit comes after Ready"
        if header.step > LARGEST_STEP or not isfinite(header.t_s):
            return f"step {header.step} at {header.t_s} s"
        return wrong_size(header, self.world, self._parameters[header.rank])


def _refused(detail: str) -> control_pb2.DepositReceipt:
    return control_pb2.DepositReceipt(accepted=False, detail=detail)
