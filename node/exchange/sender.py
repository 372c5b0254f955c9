"""The sending half of the exchange: one Deliver stream per neighbour and round, chunk by chunk.

Runs in gRPC's event loop. The training thread only queues references to encoded payloads; it is
blocked when more rounds are in flight to one peer than the window allows.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc.aio

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.counters import Counters
from gannet.node.exchange.server import MESSAGE_SLACK_BYTES
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outgoing:
    """A segment to send; `last` closes the round's stream."""

    tag: Tag
    payload: memoryview
    last: bool


_Round = tuple[int, int]  # the player's number, and its round


class PeerStream:
    """One neighbour's channel and its open rounds."""

    def __init__(
        self,
        peer: int,
        address: str,
        header: exchange_pb2.Header,
        config: ExchangeConfig,
        counters: Counters,
        turns: TurnKeeper,
        on_undelivered: Callable[[int, int, str], None],
        on_round_over: Callable[[int, int], None],
    ) -> None:
        self._peer, self._header, self._config = peer, header, config
        self._counters, self._turns = counters, turns
        self._on_undelivered, self._on_round_over = on_undelivered, on_round_over
        self._channel = grpc.aio.insecure_channel(address, options=channel_options(config))
        self._stub = exchange_pb2_grpc.ExchangeStub(self._channel)
        self._rounds: dict[_Round, asyncio.Queue[Outgoing]] = {}
        self._under_way: Counter[_Round] = Counter()  # segments without a receipt
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._lost = False

    def submit(self, outgoing: Outgoing) -> None:
        """Queue a segment; opens the round's stream at its first segment."""
        if self._lost:
            return
        key = (outgoing.tag.player, outgoing.tag.round)
        queue = self._rounds.get(key)
        if queue is None:
            queue = self._rounds[key] = asyncio.Queue()
            task = asyncio.get_running_loop().create_task(self._carry(key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._under_way[key] += 1
        self._counters.submitted(self._peer)
        queue.put_nowait(outgoing)

    async def connect(self, deadline_s: float) -> None:
        """Wait until the channel is up."""
        await asyncio.wait_for(self._channel.channel_ready(), deadline_s)
        if self._turns.pipe_bytes is not None:
            hearing = self._turns.listen(self._peer, self._stub, self._header.run, self._header.sender)
            self._listening = asyncio.get_running_loop().create_task(hearing)

    async def drain(self, timeout_s: float) -> None:
        """Wait until every open round is delivered and acknowledged."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)

    def lose(self) -> None:
        """The peer is lost permanently: nothing in flight to it is waited for, and nothing more is sent."""
        self._lost = True
        for task in set(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """End all streams; what is still in flight is dropped."""
        for task in {*self._tasks, *([self._listening] if self._listening else [])}:
            task.cancel()
        await self._channel.close()

    async def _carry(self, key: _Round, queue: asyncio.Queue[Outgoing]) -> None:
        try:
            outgoing = await queue.get()
            await self._turns.turn(outgoing.tag, len(outgoing.payload))
            await self._deliver(key, outgoing, queue)
        finally:
            self._rounds.pop(key, None)
            self._counters.settled(self._peer, self._under_way.pop(key, 0))
            self._on_round_over(self._peer, key[0])

    async def _deliver(self, key: _Round, outgoing: Outgoing, queue: asyncio.Queue[Outgoing]) -> None:
        call = self._stub.Deliver(timeout=self._config.round_deadline_s)
        receipts = asyncio.create_task(self._receipts(call, key))
        try:
            while True:
                for chunk in chunks(self._header, outgoing, self._config.chunk_bytes, self._turns.pipe_bytes):
                    async with asyncio.timeout(self._config.chunk_deadline_s):  # wait_for makes a task a chunk
                        await call.write(chunk)
                    self._counters.sent(self._peer, chunk.ByteSize())
                if outgoing.last:
                    break
                outgoing = await queue.get()
            await call.done_writing()
            await receipts
        except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError) as error:
            call.cancel()
            self._on_undelivered(self._peer, key[1], _reason(error))
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            receipts.cancel()

    async def _receipts(self, call: Any, key: _Round) -> None:
        async for receipt in call:
            self._under_way[key] -= 1
            self._counters.settled(self._peer, 1)
            if receipt.verdict != exchange_pb2.ACCEPTED:  # counted where it was refused
                verdict = exchange_pb2.Verdict.Name(receipt.verdict)
                log.warning("rank %d refused a segment: %s: %s", self._peer, verdict, receipt.detail)


def chunks(
    template: exchange_pb2.Header, outgoing: Outgoing, chunk_bytes: int, pipe_bytes: int | None = None
) -> Iterator[exchange_pb2.Chunk]:
    """The messages of one segment: a header with the first chunk, then the other chunks, each copied when it is sent.

    One chunk ends where `pipe_bytes` are left: gRPC delivers whole messages, and the receiver must notice that point
    at once.
    """
    payload = outgoing.payload
    header = exchange_pb2.Header()
    header.CopyFrom(template)
    header.round, header.segment, header.player = outgoing.tag
    header.bytes, header.crc32 = len(payload), zlib.crc32(payload)
    ends = [*range(chunk_bytes, len(payload), chunk_bytes), len(payload)]
    if pipe_bytes is not None and len(payload) > pipe_bytes:
        ends = sorted({*ends, len(payload) - pipe_bytes})
    yield exchange_pb2.Chunk(header=header, data=bytes(payload[: ends[0]]))
    for start, end in pairwise(ends):
        yield exchange_pb2.Chunk(data=bytes(payload[start:end]))


def channel_options(config: ExchangeConfig) -> list[tuple[str, int]]:
    """Channel and server options: explicit limits, BDP probing on (a 64 KiB window starves long links)."""

    limit = config.chunk_bytes + MESSAGE_SLACK_BYTES
    return [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.http2.bdp_probe", 1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.so_reuseport", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    if isinstance(error, TimeoutError):
        return "a chunk did not go out within its deadline"
    return repr(error)
