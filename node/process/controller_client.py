"""A node's connection to the controller, off the shaped network: reports, orders, snapshots and checkpoints.

A controller may be started again while its nodes train, where it has given them a grace: a node that loses its
connection then looks for the controller for so long, and keeps what it has to tell it (see Outbox).

All coroutines here run in the node's gRPC event loop; `post` and `deposit` may be called from the
training thread and return at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc.aio
import torch
from torch import Tensor

from gannet.node.admission.identity import Identity, NotBelieved, reach
from gannet.node.process.outbox import Outbox
from gannet.node.training.checkpoint import Checkpoint, CheckpointError
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL

log = logging.getLogger("gannet.node.process.node_process")

SNAPSHOT_CHUNK_BYTES = 1 << 20
_REFUSED_S = 3.0  # before a controller is tried again that does not believe this certificate
MESSAGE_LIMIT_BYTES = 4 << 20
# A machine that vanishes closes no connection: both ends ping each other, and notice within half a minute.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]
# By which a connection ends when the other end is gone; any other status is the controller's own answer.
_BREAKS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0


def until_reachable(address: str, identity: Callable[[], Identity | None] = lambda: None) -> None:
    """Wait until the controller listens at host:port and, with an identity, both believe each other.

    gRPC would wait too, but while a name does not resolve it asks again only after up to two minutes; and it does not
    say why a certificate is refused. `identity`: the present one, which is asked for each time.
    """
    said = ""
    while True:
        try:
            reach(address, identity())
            return
        except OSError:
            time.sleep(0.5)
        except NotBelieved as error:
            if said != (said := str(error)):
                log.warning("the controller at %s: %s", address, said)
            time.sleep(_REFUSED_S)


class ControlLine:
    """The Attend stream of one node, and its deposits of snapshots and checkpoints.

    `credential`: what the controller knows this node by. `outbox`: what it has to tell. `identity`: for
    mutual TLS with it.
    """

    def __init__(
        self,
        controller: str,
        credential: str,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox | None = None,
        identity: Identity | None = None,
    ) -> None:
        self._controller, self._loop, self._identity = controller, loop, identity
        self.key = ""  # of this node's assignment
        self.outbox = outbox or Outbox()
        self._metadata = ((CREDENTIAL, credential),)
        self._again: control_pb2.Again | None = None
        self._grace_s = 0.0
        self._gone_since_s: float | None = None
        self._connect()
        self._hello: asyncio.Future[control_pb2.Report] = loop.create_future()
        self._news = asyncio.Event()
        self._there = asyncio.Event()
        self._there.set()
        self._closed = False
        self._deposits: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def _connect(self) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a node may be up long before its controller
            *KEEPALIVE,
        ]
        if self._identity is None:
            self._channel = grpc.aio.insecure_channel(self._controller, options=options)
        else:
            options += self._identity.options()
            self._channel = grpc.aio.secure_channel(self._controller, self._identity.channel(), options=options)
        self._stub = control_pb2_grpc.ControllerStub(self._channel)

    def begin(self, run: str, rank: int, grace_s: float) -> None:
        """Training begins: from now on a controller that goes away is waited for, for up to `grace_s`.

        For any thread. Without a grace, reports are not kept once they are sent.
        """

        def stay() -> None:
            self._grace_s = grace_s
            if grace_s > 0:
                self._again = control_pb2.Again(run=run, rank=rank, key=self.key)
            else:
                self.outbox.forget_sent()

        self._loop.call_soon_threadsafe(stay)

    def over(self) -> None:
        """The run is over: a controller that goes away now is not waited for. For the loop."""
        self._again = None

    async def orders(self) -> AsyncIterator[control_pb2.Order]:
        """Open the line and yield the controller's orders until it closes.

        Raises AioRpcError where it broke, and the controller did not come back in time or takes this node no more.
        """
        first = control_pb2.Report(hello=(await self._hello).hello)
        while True:
            found = self._gone_since_s is None
            try:
                call: Any = self._stub.Attend(
                    self._outgoing(first, found), metadata=self._metadata, wait_for_ready=True, timeout=None
                )
                while True:
                    read = call.read()
                    order = await (read if found else asyncio.wait_for(read, self._left_s()))
                    if order is grpc.aio.EOF:
                        return
                    if order.WhichOneof("kind") == "received":
                        self.outbox.received(order.received.number)
                        if not found:
                            found = True
                            self._is_back()
                        continue
                    yield order
            except TimeoutError:
                raise ConnectionError(f"it did not answer within {self._grace_s:g} s") from None
            except grpc.aio.AioRpcError as error:
                if self._again is None or error.code() not in _BREAKS:
                    raise
                await self._find(error)
                first = control_pb2.Report(hello=control_pb2.Hello(pid=first.hello.pid, again=self._again))

    async def _outgoing(self, first: control_pb2.Report, found: bool) -> AsyncIterator[control_pb2.Report]:
        there, news = self._there, self._news
        yield first
        if not found:
            await there.wait()  # which reports are recorded comes first
        while not self._closed and there is self._there:
            if (report := self.outbox.take()) is not None:
                yield report
            else:
                await news.wait()
                news.clear()

    async def _find(self, error: grpc.aio.AioRpcError) -> None:
        """Wait until the controller listens again, as long as its grace lasts, and prepare another connection."""
        if self._gone_since_s is None:
            self._gone_since_s = self._loop.time()
            log.warning(
                "the controller is away (%s): training continues, for up to %g s", error.details(), self._grace_s
            )
        self._news.set()  # ends the former connection's _outgoing
        self._there, self._news = asyncio.Event(), asyncio.Event()
        self.outbox.lost()
        pause_s = _FIRST_PAUSE_S
        while True:
            await asyncio.sleep(min(pause_s, self._left_s()))
            if await self._listens():
                break
            if not self._left_s():
                raise error
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        await self._channel.close()
        self._connect()

    def _left_s(self) -> float:
        return max(0.0, (self._gone_since_s or 0.0) + self._grace_s - self._loop.time())

    async def _listens(self) -> bool:
        try:
            if self._identity is not None:
                await asyncio.to_thread(reach, self._controller, self._identity)
                return True
            if self._controller.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(self._controller.removeprefix("unix:"))
            else:
                host, _, port = self._controller.rpartition(":")
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 3.0)
        except NotBelieved as error:
            log.warning("the controller: %s", error)
            return False
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _is_back(self) -> None:
        log.warning("the controller is back after %.1f s", self._loop.time() - (self._gone_since_s or 0.0))
        self._gone_since_s = None
        self.outbox.found()
        self._there.set()

    def post(self, **kind: Any) -> None:
        """Queue a report: exactly one of Report's kinds by name."""
        report = control_pb2.Report(**kind)
        if report.WhichOneof("kind") == "hello":
            self._loop.call_soon_threadsafe(self._hello.set_result, report)
            return

        def add() -> None:
            self.outbox.add(report)
            self._news.set()

        self._loop.call_soon_threadsafe(add)

    def deposit(self, header: control_pb2.SnapshotHeader, x: Tensor) -> None:
        """Upload a snapshot in the background; `x` must not change afterwards."""

        async def payload() -> memoryview:
            return memoryview(x.detach().cpu().contiguous().view(torch.uint8).numpy().data)

        self._begin(self._deposit(header, payload()))

    def deposit_checkpoint(self, header: control_pb2.SnapshotHeader, checkpoint: Checkpoint) -> None:
        """Pack and upload a checkpoint in the background."""

        async def payload() -> memoryview:
            return memoryview(await asyncio.to_thread(checkpoint.pack))

        self._begin(self._deposit(header, payload()))

    async def restore(self, rank: int, size: int, start: bool = False) -> bytes:
        """This node's checkpoint of `size` bytes, or the weights to start from.

        Raises CheckpointError if the length differs.
        """
        data = bytearray()
        request = control_pb2.RestoreRequest(key=self.key, rank=rank, start=start)
        call: Any = self._stub.Restore(request, metadata=self._metadata)
        async for chunk in call:
            data += chunk.data
        if len(data) != size:
            what = "weights to begin from" if start else "checkpoint"
            raise CheckpointError(f"{what} of node {rank}: {len(data)} bytes came of {size}; try again")
        return bytes(data)

    def _begin(self, deposit: Coroutine[Any, Any, None]) -> None:
        def begin() -> None:
            task = self._loop.create_task(deposit)
            self._deposits.add(task)
            task.add_done_callback(self._deposits.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _deposit(self, header: control_pb2.SnapshotHeader, packed: Awaitable[memoryview]) -> None:
        payload = await packed
        header.key, header.bytes, header.crc32 = self.key, len(payload), zlib.crc32(payload)

        async def chunks() -> AsyncIterator[control_pb2.SnapshotChunk]:
            yield control_pb2.SnapshotChunk(header=header)
            for start in range(0, len(payload), SNAPSHOT_CHUNK_BYTES):
                yield control_pb2.SnapshotChunk(data=bytes(payload[start : start + SNAPSHOT_CHUNK_BYTES]))

        self.outbox.deposit(len(payload))
        try:
            async with self._one_at_a_time:
                receipt = await self._deliver(chunks)
        finally:
            self.outbox.deposit(-len(payload))
        if receipt is None:
            return
        if not receipt.accepted:
            what = "checkpoint" if header.checkpoint else "snapshot"
            failed = control_pb2.Failed(reason=f"{what} refused: {receipt.detail}", step=header.step)
            self.post(failed=failed)

    async def _deliver(
        self, chunks: Callable[[], AsyncIterator[control_pb2.SnapshotChunk]]
    ) -> control_pb2.DepositReceipt | None:
        """The receipt; of a controller that is away, once it is back. None: it does not come back."""
        while True:
            try:
                receipt: control_pb2.DepositReceipt = await self._stub.Deposit(
                    chunks(), metadata=self._metadata, wait_for_ready=True
                )
                return receipt
            except grpc.aio.AioRpcError as error:
                if self._again is None or error.code() not in _BREAKS:
                    raise
            except asyncio.CancelledError:  # also where its channel was closed
                task = asyncio.current_task()
                if self._again is None or task is None or task.cancelling():
                    raise
            await asyncio.sleep(_FIRST_PAUSE_S)  # the line may not have noticed yet
            await self._there.wait()
            if self._closed:
                return None

    async def settle(self) -> None:
        """Wait until every deposit is through."""
        while self._deposits:
            await asyncio.gather(*self._deposits)

    def give_up(self) -> None:
        """The controller does not come back: nothing waits for it any more. For the loop."""
        self._closed = True
        self.outbox.end()
        self._there.set()
        self._news.set()

    async def close(self) -> None:
        """Close the line."""
        self.give_up()
        await self._channel.close()
