"""The receiving half of the exchange: a gRPC service that passes messages to the mailbox, which checks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from gannet.node.exchange.blocking_mailbox import BlockingMailbox
from gannet.node.exchange.checksum import crc32
from gannet.node.exchange.chunk_wire import Chunk
from gannet.node.exchange.gate import Gate
from gannet.node.exchange.mailbox import Header, Refusal, Verdict
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

# Frames around a chunk (headers, protobuf keys) are small: this much above a chunk is generous.
MESSAGE_SLACK_BYTES = 4096
# Why these are refused is for this run's own report: a stranger must not learn what would be taken.
_SECRET = {Verdict.WRONG_RUN, Verdict.WRONG_SENDER, Verdict.WRONG_SCHEMA}
_NOT_OF_THIS_RUN = "not a message of this run"
# gRPC ends the messages of a broken stream before it cancels the call (grpcio 1.85.3): a busy loop sees both at once.
_CANCEL_S = 1.0


class ExchangeServer(exchange_pb2_grpc.ExchangeServicer):
    """Takes Deliver streams. Every segment gets one receipt; a refused segment is reported and never used."""

    def __init__(
        self,
        inbox: BlockingMailbox,
        turns: TurnKeeper,
        run: str,
        gate: Gate,
        idle_s: float,
        chunk_bytes: int,
        on_refusal: Callable[[int, Refusal], None],
    ) -> None:
        """`idle_s`: a stream that says nothing for so long is ended."""
        self._inbox, self._turns, self._run, self._gate, self._idle_s = inbox, turns, run, gate, idle_s
        self._on_refusal, self._chunk_bytes = on_refusal, chunk_bytes
        self.offered: dict[int, bytes] = {}  # states for nodes that come back, by rank
        self._round_began, self._loop = asyncio.Event(), asyncio.get_running_loop()
        inbox.on_round(self._tell_of_round)

    def _tell_of_round(self) -> None:
        self._loop.call_soon_threadsafe(self._round_began.set)

    async def _caller(self, context: Any) -> str:
        """Who calls, once the members are known. Ends a call of one that calls too often."""
        await self._gate.known()
        caller = self._gate.caller(context)
        if not self._gate.takes(caller):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls a second")
        return caller

    async def Attend(self, request: exchange_pb2.Listener, context: Any) -> AsyncIterator[exchange_pb2.Ready]:
        """Report to a sender the rounds for which this node is ready."""
        caller = await self._caller(context)
        if request.run != self._run or not self._gate.is_from(caller, request.rank):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, _NOT_OF_THIS_RUN)
        async for number in self._turns.tell(request.rank):
            yield exchange_pb2.Ready(round=number)

    async def Fetch(self, request: exchange_pb2.Listener, context: Any) -> AsyncIterator[exchange_pb2.StateChunk]:
        """Send the state that is offered to a node that comes back."""
        caller = await self._caller(context)
        state = self.offered.get(request.rank)
        ours = request.run == self._run and self._gate.is_from(caller, request.rank)
        if not ours or state is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, _NOT_OF_THIS_RUN)
            return
        for start in range(0, len(state), self._chunk_bytes):
            yield exchange_pb2.StateChunk(data=state[start : start + self._chunk_bytes])

    async def Deliver(
        self, request_iterator: AsyncIterator[Chunk], context: Any
    ) -> AsyncIterator[exchange_pb2.Receipt]:
        """One round of one sender."""
        caller = await self._caller(context)
        with self._gate.stream(caller) as allowed:
            if not allowed:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams are open")
            async for receipt in self._take(request_iterator, caller, context):
                yield receipt

    async def _take(
        self, request_iterator: AsyncIterator[Chunk], caller: str, context: Any
    ) -> AsyncIterator[exchange_pb2.Receipt]:
        segment: _IncomingSegment | None = None
        chunks = aiter(request_iterator)
        while (chunk := await self._next(chunks, context)) is not None:
            if chunk.header is not None:
                if segment is not None:
                    yield self._cut_short(segment, "another segment began")
                segment = await self._begin(chunk.header, caller)
            if segment is None:
                self._inbox.malformed("data without a header")
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a segment begins with a header")
                return
            segment.take(chunk.data)
            if segment.refusal is None:
                self._turns.came(segment.header.sender, segment.header.tag, segment.header.bytes - segment.taken)
            if segment.whole:
                yield self._end(segment)
                segment = None
        if segment is not None:
            await asyncio.sleep(_CANCEL_S)  # a call whose connection broke is cancelled here: the sender did no wrong
            yield self._cut_short(segment, "the stream ended")

    async def _next(self, chunks: AsyncIterator[Chunk], context: Any) -> Chunk | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(chunks, None)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing came for {self._idle_s:.1f} s")
            raise  # abort raises

    def _cut_short(self, segment: _IncomingSegment, why: str) -> exchange_pb2.Receipt:
        detail = f"{why} after {segment.taken} of {segment.header.bytes} bytes"
        return self._refuse(segment.header, segment.refusal or self._inbox.malformed(detail))

    async def _begin(self, message: exchange_pb2.Header, caller: str) -> _IncomingSegment:
        """A segment, once this node has come near its round; its sender gives it up at the round's deadline."""
        header = Header(
            run=message.run,
            sender=message.sender,
            tag=Tag(message.round, message.segment, message.player),
            schema=message.schema,
            bytes=message.bytes,
            crc32=message.crc32,
            again=message.again,
        )
        try:
            while self._gate.is_from(caller, header.sender) and self._inbox.is_ahead(header):
                self._round_began.clear()
                await self._round_began.wait()
            if not self._gate.is_from(caller, header.sender):
                raise self._inbox.forged(self._gate.why_not(caller, header.sender))
            self._inbox.check_header(header)
        except Refusal as refusal:
            return _IncomingSegment(header, refusal)
        return _IncomingSegment(header, None)

    def _end(self, segment: _IncomingSegment) -> exchange_pb2.Receipt:
        try:
            if segment.refusal is not None:
                raise segment.refusal
            if segment.taken > segment.header.bytes:
                raise self._inbox.malformed(f"{segment.taken} bytes, announced {segment.header.bytes}")
            self._inbox.put(segment.header, memoryview(segment.payload), segment.crc32)
        except Refusal as refusal:
            return self._refuse(segment.header, refusal)
        return _receipt(segment.header, Verdict.ACCEPTED, "")

    def _refuse(self, header: Header, refusal: Refusal) -> exchange_pb2.Receipt:
        if refusal.verdict is not Verdict.REPEATED:
            self._on_refusal(header.sender, refusal)
        told = _NOT_OF_THIS_RUN if refusal.verdict in _SECRET else refusal.detail
        return _receipt(header, refusal.verdict, told)


class _IncomingSegment:
    """An incoming segment. A segment refused by its header is counted through but not kept."""

    def __init__(self, header: Header, refusal: Refusal | None) -> None:
        self.header = header
        self.refusal = refusal
        self.payload = bytearray()
        self.taken = 0
        self.crc32 = 0

    def take(self, data: memoryview) -> None:
        end = self.taken + len(data)
        if self.refusal is None and end <= self.header.bytes:
            if len(data) == self.header.bytes:  # one chunk, and no memory to be cleared first
                self.payload = bytearray(data)
            else:
                self.payload = self.payload or bytearray(self.header.bytes)
                self.payload[self.taken : end] = data
            self.crc32 = crc32(data, self.crc32)  # while the rest is in flight, not at the end
        self.taken = end

    @property
    def whole(self) -> bool:
        return self.taken >= self.header.bytes


def _receipt(header: Header, verdict: Verdict, detail: str) -> exchange_pb2.Receipt:
    return exchange_pb2.Receipt(
        round=header.tag.round,
        segment=header.tag.segment,
        player=header.tag.player,
        verdict=exchange_pb2.Verdict.Name(verdict.value),
        detail=detail,
    )
