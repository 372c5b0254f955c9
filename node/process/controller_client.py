"""A node's connection to the controller, off the shaped network: reports, orders, snapshots and checkpoints.

All coroutines here run in the node's gRPC event loop; `post` and `deposit` may be called from the
training thread and return at once.
"""

from __future__ import annotations

import asyncio
import socket
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

import grpc.aio
import torch
from torch import Tensor

from gannet.node.training.checkpoint import Checkpoint, CheckpointError
from gannet.node.wire import control_pb2, control_pb2_grpc
from gannet.node.wire.metadata import CREDENTIAL

SNAPSHOT_CHUNK_BYTES = 1 << 20
MESSAGE_LIMIT_BYTES = 4 << 20
# A machine that vanishes closes no connection: both ends ping each other, and notice within half a minute.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]


def until_reachable(address: str) -> None:
    """Wait until a server listens at host:port.

    gRPC would wait too, but while a name does not resolve it asks again only after up to two minutes.
    """
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), 3.0).close()
            return
        except OSError:
            time.sleep(0.5)


class ControlLine:
    """The Attend stream of one node, and its deposits of snapshots and checkpoints.

    `credential`: what the controller knows this node by.
    """

    def __init__(self, controller: str, credential: str, loop: asyncio.AbstractEventLoop) -> None:
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a node may be up long before its controller
            *KEEPALIVE,
        ]
        self._loop = loop
        self.key = ""  # of this node's assignment
        self._metadata = ((CREDENTIAL, credential),)
        self._channel = grpc.aio.insecure_channel(controller, options=options)
        self._stub = control_pb2_grpc.ControllerStub(self._channel)
        self._reports: asyncio.Queue[control_pb2.Report | None] = asyncio.Queue()
        self._deposits: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def orders(self) -> AsyncIterator[control_pb2.Order]:
        """Open the line and yield the controller's orders until it closes."""
        call: Any = self._stub.Attend(self._outgoing(), metadata=self._metadata, wait_for_ready=True)
        async for order in call:
            yield order

    async def _outgoing(self) -> AsyncIterator[control_pb2.Report]:
        while (report := await self._reports.get()) is not None:
            yield report

    def post(self, **kind: Any) -> None:
        """Queue a report: exactly one of Report's kinds by name."""
        self._loop.call_soon_threadsafe(self._reports.put_nowait, control_pb2.Report(**kind))

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

        async with self._one_at_a_time:
            receipt = await self._stub.Deposit(chunks(), metadata=self._metadata, wait_for_ready=True)
        if not receipt.accepted:
            what = "checkpoint" if header.checkpoint else "snapshot"
            failed = control_pb2.Failed(reason=f"{what} refused: {receipt.detail}", step=header.step)
            self.post(failed=failed)

    async def settle(self) -> None:
        """Wait until every deposit is through."""
        while self._deposits:
            await asyncio.gather(*self._deposits)

    async def close(self) -> None:
        """Close the line."""
        await self._reports.put(None)
        await self._channel.close()
