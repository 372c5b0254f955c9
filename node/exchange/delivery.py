"""Delivery of one round to one peer: over one Deliver stream, or over as many as it takes until the deadline.

A stream may break although both nodes are well: a link is cut for so long that TCP gives the connection up, a machine
between them forgets it, a node stands still. The round is still wanted when the link is back, so what has no receipt
is sent again, marked as such: the receiver drops what it has already, and does not count that as a refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc.aio

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.cancellation import heed_cancellation
from gannet.node.exchange.checksum import crc32
from gannet.node.exchange.chunk_wire import pack
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2

log = logging.getLogger(__name__)

_AGAIN_S = 0.2  # from a broken stream to the next; the next waits for the connection
# What a broken connection, a reset stream, a server on its way out or one that is called too often ends a call with.
# Any other status is an answer.
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Undelivered(Exception):
    """The round did not reach the peer before the deadline, or the peer refused the stream."""


class _Broken(Exception):
    """A stream ended before every segment had its receipt; another may do better."""


@dataclass(frozen=True)
class Outgoing:
    """A segment to send; `last` closes the round's stream."""

    tag: Tag
    payload: memoryview
    last: bool


class Delivery:
    """One round's segments: those still to come, and those without a receipt.

    `on_sent` is called with the serialised bytes of every message that goes to gRPC, `on_receipt` once a segment.
    """

    def __init__(
        self,
        peer: int,
        template: exchange_pb2.Header,
        config: ExchangeConfig,
        pipe_bytes: int | None,
        on_sent: Callable[[int], None],
        on_receipt: Callable[[], None],
    ) -> None:
        self._peer, self._template, self._config, self._pipe_bytes = peer, template, config, pipe_bytes
        self._on_sent, self._on_receipt = on_sent, on_receipt
        self._coming: deque[Outgoing] = deque()
        self._news = asyncio.Event()  # a segment came, or the stream ended
        self._unanswered: deque[Outgoing] = deque()
        self._complete = False  # whether the last segment is among those taken

    def add(self, outgoing: Outgoing) -> None:
        """Another segment of this round."""
        self._coming.append(outgoing)
        self._news.set()

    async def first(self) -> Outgoing:
        """The first segment, once there is one; it is delivered with the rest."""
        while not self._coming:
            self._news.clear()
            await self._news.wait()
        return self._take()

    async def run(self, stub: Any, on_break: Callable[[str], None]) -> None:
        """Deliver everything. Raises Undelivered; `on_break` is told of the first stream that broke, and why."""
        clock = asyncio.get_running_loop().time
        deadline_s, again = clock() + self._config.round_deadline_s, False
        while True:
            try:
                await self._over(stub.Deliver(timeout=deadline_s - clock(), wait_for_ready=again), again)
                return
            except _Broken as broken:
                heed_cancellation()
                if clock() + _AGAIN_S >= deadline_s:
                    raise Undelivered(str(broken)) from None
                if not again:
                    on_break(str(broken))
                again = True
                await asyncio.sleep(_AGAIN_S)

    async def _over(self, call: Any, again: bool) -> None:
        """Send what has no receipt, and what comes, over this stream."""
        receipts = asyncio.create_task(self._receive_receipts(call))
        receipts.add_done_callback(lambda _: self._news.set())
        try:
            for outgoing in list(self._unanswered):
                await self._write(call, outgoing, again)
            while not self._complete:
                await self._write(call, await self._next(receipts), again=False)
            await call.done_writing()
            await receipts
        except asyncio.InvalidStateError:  # a write to a stream that is over: its status says why
            raise _ended(await call.code(), await call.details()) from None
        except grpc.aio.AioRpcError as error:
            raise _ended(error.code(), error.details()) from None
        except TimeoutError:
            raise _Broken("a chunk did not go out within its deadline") from None
        finally:
            call.cancel()
            receipts.cancel()
            await asyncio.gather(receipts, return_exceptions=True)
        if self._unanswered:
            raise _Broken(f"the stream ended without a receipt for {self._unanswered[0].tag}")

    async def _next(self, receipts: asyncio.Task[None]) -> Outgoing:
        """The next segment; a stream that breaks while there is none is noticed at once, since what it carried may be
        what the next segment waits for.
        """
        while not self._coming:
            if receipts.done():
                receipts.result()
                raise _Broken("the stream ended before its last segment")
            self._news.clear()
            await self._news.wait()
        return self._take()

    def _take(self) -> Outgoing:
        outgoing = self._coming.popleft()
        self._unanswered.append(outgoing)
        self._complete = self._complete or outgoing.last
        return outgoing

    async def _write(self, call: Any, outgoing: Outgoing, again: bool) -> None:
        for chunk in chunks(self._template, outgoing, self._config.chunk_bytes, self._pipe_bytes, again):
            async with asyncio.timeout(self._config.chunk_deadline_s):  # wait_for makes a task a chunk
                await call.write(chunk)
            self._on_sent(len(chunk))

    async def _receive_receipts(self, call: Any) -> None:
        async for receipt in call:
            tag = Tag(receipt.round, receipt.segment, receipt.player)
            outgoing = next((each for each in self._unanswered if each.tag == tag), None)
            if outgoing is None:
                continue
            self._unanswered.remove(outgoing)
            self._on_receipt()
            if receipt.verdict not in (exchange_pb2.ACCEPTED, exchange_pb2.REPEATED):  # counted where it was refused
                verdict = exchange_pb2.Verdict.Name(receipt.verdict)
                log.warning("rank %d refused a segment: %s: %s", self._peer, verdict, receipt.detail)


def chunks(
    template: exchange_pb2.Header,
    outgoing: Outgoing,
    chunk_bytes: int,
    pipe_bytes: int | None = None,
    again: bool = False,
) -> Iterator[bytes]:
    """The messages of one segment: a header with the first chunk, then the other chunks, each copied when it is sent.

    One chunk ends where `pipe_bytes` are left: gRPC delivers whole messages, and the receiver must notice that point
    at once. `again`: it has been sent before, and whether it arrived is not known.
    """
    payload = outgoing.payload
    header = exchange_pb2.Header()
    header.CopyFrom(template)
    header.round, header.segment, header.player = outgoing.tag
    header.bytes, header.crc32, header.again = len(payload), crc32(payload), again
    ends = [*range(chunk_bytes, len(payload), chunk_bytes), len(payload)]
    if pipe_bytes is not None and len(payload) > pipe_bytes:
        ends = sorted({*ends, len(payload) - pipe_bytes})
    yield pack(payload[: ends[0]], header)
    for start, end in pairwise(ends):
        yield pack(payload[start:end])


def _ended(code: grpc.StatusCode, details: str | None) -> _Broken | Undelivered:
    reason = f"{code.name}: {details}"
    return _Broken(reason) if code in _PASSING else Undelivered(reason)
