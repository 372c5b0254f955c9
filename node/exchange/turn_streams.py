"""Turns on the wire (see gannet.node.exchange.turn_rule): reports to senders the rounds for which this node is
ready, and receives the same from receivers.

Runs in gRPC's event loop. A sender listens to each peer that it ever sends to, on one long stream; when a stream
breaks, it sends without turns until the next stream is up, since turns only save time and nothing depends on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.cancellation import heed_cancellation
from gannet.node.exchange.turn_rule import Turns
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

# Seconds from a broken stream to the next attempt.
_AGAIN_S = 1.0


class TurnKeeper:
    """A node's turns, with the streams that announce them. Without turns everything is sent at once."""

    def __init__(self, config: ExchangeConfig, in_turns: bool) -> None:
        self.turns = Turns(self._announce)
        self.pipe_bytes = config.pipe_bytes if in_turns else None
        self._turn_s = config.turn_s
        self._listeners: dict[int, asyncio.Event] = {}  # by rank

    def came(self, source: int, tag: Tag, left_bytes: int) -> None:
        """Note that a segment is arriving, and that `left_bytes` of it are still missing."""
        if self.pipe_bytes is not None and left_bytes <= self.pipe_bytes:
            self.turns.nearly(source, tag.round)

    async def turn(self, tag: Tag, size: int) -> None:
        """Wait until a message that begins with a segment of `size` bytes may go, `turn_s` at most."""
        if self.pipe_bytes is None or size <= self.pipe_bytes:
            return
        free = asyncio.Event()
        held = self.turns.take(tag.round, free.set)
        if held is not None:
            try:
                async with asyncio.timeout(self._turn_s):
                    await free.wait()
            except TimeoutError:
                self.turns.let_go(held)

    async def listen(self, peer: int, stub: exchange_pb2_grpc.ExchangeStub, run: str, rank: int) -> None:
        """Receive the rounds for which a peer is ready, for ever; a peer without turns is not asked again."""
        while True:
            try:
                async for ready in stub.Attend(exchange_pb2.Listener(run=run, rank=rank)):
                    self.turns.hear(peer, ready.round)
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED):
                    self.turns.silence(peer)
                    return
            heed_cancellation()
            self.turns.silence(peer)
            await asyncio.sleep(_AGAIN_S)

    async def tell(self, listener: int) -> AsyncIterator[int]:
        """Yield the round for which this node is ready, now and whenever it is ready for another.

        One stream a listener: a later one, of a peer whose stream broke, ends the one before.
        """
        changed, told = asyncio.Event(), -1
        if (before := self._listeners.get(listener)) is not None:
            before.set()
        self._listeners[listener] = changed
        try:
            while self._listeners[listener] is changed:
                changed.clear()
                if self.turns.ready > told:
                    told = self.turns.ready
                    yield told
                else:
                    await changed.wait()
        finally:
            if self._listeners.get(listener) is changed:
                del self._listeners[listener]

    def _announce(self, number: int) -> None:
        for changed in self._listeners.values():
            changed.set()
