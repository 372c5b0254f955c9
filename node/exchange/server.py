"""The receiving half of the exchange: a gRPC service that puts parcels through the mailbox's gate."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from gannet.node.exchange.blocking_mailbox import Shelf
from gannet.node.exchange.mailbox import Header, Refusal, Verdict
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

# Frames around a chunk (headers, protobuf keys) are small: this much above a chunk is generous.
MESSAGE_SLACK_BYTES = 4096


class ExchangeServer(exchange_pb2_grpc.ExchangeServicer):
    """Takes Deliver streams. Every part gets one receipt; a refused part is reported and never used."""

    def __init__(self, shelf: Shelf, turns: TurnKeeper, run: str, on_refusal: Callable[[int, Refusal], None]) -> None:
        self._shelf, self._turns, self._run = shelf, turns, run
        self._on_refusal = on_refusal

    async def Attend(self, request: exchange_pb2.Listener, context: Any) -> AsyncIterator[exchange_pb2.Ready]:
        """Tell a sender for which rounds this node is ready."""
        if request.run != self._run:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"run {request.run!r}, here {self._run!r}")
        async for number in self._turns.tell():
            yield exchange_pb2.Ready(round=number)

    async def Deliver(
        self, request_iterator: AsyncIterator[exchange_pb2.Piece], context: Any
    ) -> AsyncIterator[exchange_pb2.Receipt]:
        """One round of one sender."""
        part: _Part | None = None
        async for piece in request_iterator:
            if piece.HasField("header"):
                if part is not None:
                    yield self._cut_short(part, "another part began")
                part = self._begin(piece.header)
            if part is None:
                self._shelf.malformed("data without a header")
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a part begins with a header")
                return
            part.take(piece.data)
            if part.refusal is None:
                self._turns.came(part.header.sender, part.header.tag, part.header.bytes - part.taken)
            if part.whole:
                yield self._end(part)
                part = None
        if part is not None:
            yield self._cut_short(part, "the stream ended")

    def _cut_short(self, part: _Part, why: str) -> exchange_pb2.Receipt:
        detail = f"{why} after {part.taken} of {part.header.bytes} bytes"
        return self._refuse(part.header, part.refusal or self._shelf.malformed(detail))

    def _begin(self, message: exchange_pb2.Header) -> _Part:
        header = Header(
            run=message.run,
            sender=message.sender,
            tag=Tag(message.round, message.part, message.player),
            schema=message.schema,
            bytes=message.bytes,
            crc32=message.crc32,
        )
        try:
            self._shelf.check_header(header)
        except Refusal as refusal:
            return _Part(header, refusal)
        return _Part(header, None)

    def _end(self, part: _Part) -> exchange_pb2.Receipt:
        try:
            if part.refusal is not None:
                raise part.refusal
            if part.taken > part.header.bytes:
                raise self._shelf.malformed(f"{part.taken} bytes, announced {part.header.bytes}")
            self._shelf.put(part.header, memoryview(part.body), part.crc32)
        except Refusal as refusal:
            return self._refuse(part.header, refusal)
        return _receipt(part.header, Verdict.ACCEPTED, "")

    def _refuse(self, header: Header, refusal: Refusal) -> exchange_pb2.Receipt:
        self._on_refusal(header.sender, refusal)
        return _receipt(header, refusal.verdict, refusal.detail)


class _Part:
    """A part on its way in. A part refused by its header is counted through but not kept."""

    def __init__(self, header: Header, refusal: Refusal | None) -> None:
        self.header = header
        self.refusal = refusal
        self.body = bytearray() if refusal else bytearray(header.bytes)
        self.taken = 0
        self.crc32 = 0

    def take(self, data: bytes) -> None:
        end = self.taken + len(data)
        if self.refusal is None and end <= self.header.bytes:
            self.body[self.taken : end] = data
            self.crc32 = zlib.crc32(data, self.crc32)  # while the rest is on its way, not at the end
        self.taken = end

    @property
    def whole(self) -> bool:
        return self.taken >= self.header.bytes


def _receipt(header: Header, verdict: Verdict, detail: str) -> exchange_pb2.Receipt:
    return exchange_pb2.Receipt(
        round=header.tag.round,
        part=header.tag.part,
        player=header.tag.player,
        verdict=exchange_pb2.Verdict.Name(verdict.value),
        detail=detail,
    )
