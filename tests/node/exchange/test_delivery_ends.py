"""What is ended in the moment in which its stream breaks: it ends, and opens no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.delivery import Delivery, Outgoing
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2


class BreaksWhenCancelled:
    """A stream of grpc.aio whose connection ends just as its reader is cancelled: it raises its status."""

    opened = 0

    def __init__(self) -> None:
        self.all_written, self.is_read = asyncio.Event(), asyncio.Event()

    def Deliver(self, **options: Any) -> BreaksWhenCancelled:
        self.opened += 1
        return self

    def Attend(self, listener: exchange_pb2.Listener) -> BreaksWhenCancelled:
        self.opened += 1
        return self

    async def write(self, chunk: exchange_pb2.Chunk) -> None: ...

    async def done_writing(self) -> None:
        self.all_written.set()

    def cancel(self) -> bool:
        return True

    async def __aiter__(self) -> AsyncIterator[exchange_pb2.Receipt]:
        self.is_read.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "Stream removed") from None
        yield exchange_pb2.Receipt()


def test_a_delivery_that_is_ended_as_its_stream_breaks_is_not_begun_again() -> None:
    async def play() -> tuple[bool, int, list[str]]:
        stream, breaks = BreaksWhenCancelled(), list[str]()
        config = ExchangeConfig(round_deadline_s=600.0, liveness_s=900.0)
        header = exchange_pb2.Header(run="r", sender=0, schema=1)
        delivery = Delivery(1, header, config, None, lambda _: None, lambda: None)
        delivery.add(Outgoing(Tag(3, 0), memoryview(bytes(8)), True))
        task = asyncio.create_task(delivery.run(stream, breaks.append))
        await stream.all_written.wait()
        await asyncio.sleep(0)  # it waits for receipts
        task.cancel()
        await asyncio.wait({task}, timeout=60)
        return task.cancelled(), stream.opened, breaks

    assert asyncio.run(play()) == (True, 1, [])


def test_a_node_that_no_longer_listens_does_not_ask_again() -> None:
    async def play() -> tuple[bool, int]:
        stream = BreaksWhenCancelled()
        keeper = TurnKeeper(ExchangeConfig(pipe_bytes=1000), True)
        task = asyncio.create_task(keeper.listen(1, stream, "r", 0))  # type: ignore[arg-type]
        await stream.is_read.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=60)
        return task.cancelled(), stream.opened

    assert asyncio.run(play()) == (True, 1)
