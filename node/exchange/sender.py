"""The sending half of the exchange: one Deliver stream per neighbour and round, chunk by chunk.

Runs in gRPC's event loop. The training thread only queues references to encoded payloads; it is
blocked when more rounds are in flight to one peer than the window allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.chunk_wire import ExchangeStub
from gannet.node.exchange.counters import Counters
from gannet.node.exchange.delivery import Delivery, Outgoing, Undelivered
from gannet.node.exchange.server import MESSAGE_SLACK_BYTES
from gannet.node.exchange.tls import Credentials, open_channel
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.wire import exchange_pb2

log = logging.getLogger(__name__)

_NEVER_MS = 7 * 24 * 3_600_000
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
        on_break: Callable[[int, int, str], None],
        on_undelivered: Callable[[int, int, str], None],
        on_round_over: Callable[[int, int], None],
        tls: Credentials | None = None,
        name: str = "",
    ) -> None:
        """`name`: of the peer's certificate, with `tls`."""
        self._peer, self._address, self._header, self._config = peer, address, header, config
        self._counters, self._turns = counters, turns
        self._on_break, self._on_undelivered, self._on_round_over = on_break, on_undelivered, on_round_over
        self._channel = open_channel(address, channel_options(config), tls, name)
        self._stub = ExchangeStub(self._channel)
        self._rounds: dict[_Round, Delivery] = {}
        self._under_way: Counter[_Round] = Counter()  # segments without a receipt
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._lost = False

    def submit(self, outgoing: Outgoing) -> None:
        """Queue a segment; opens the round's stream at its first segment."""
        if self._lost:
            return
        key = (outgoing.tag.player, outgoing.tag.round)
        delivery = self._rounds.get(key)
        if delivery is None:
            delivery = self._rounds[key] = self._delivery(key)
            task = asyncio.get_running_loop().create_task(self._carry(key, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._under_way[key] += 1
        self._counters.submitted(self._peer)
        delivery.add(outgoing)

    async def connect(self, deadline_s: float) -> None:
        """Wait until the channel is up. Raises TimeoutError where it is not, in time."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), deadline_s)
        except TimeoutError:
            raise TimeoutError(
                f"rank {self._peer} was not reached at {self._address} within {deadline_s:.0f} s"
            ) from None
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

    def abandon(self) -> None:
        """Drop what is in flight: the peer no longer waits for it."""
        for task in set(self._tasks):
            asyncio.get_running_loop().call_soon(task.cancel)  # not before it has begun, or it would not clear up

    async def close(self) -> None:
        """End all streams; what is still in flight is dropped."""
        for task in {*self._tasks, *([self._listening] if self._listening else [])}:
            task.cancel()
        await self._channel.close()

    def _delivery(self, key: _Round) -> Delivery:
        def on_receipt() -> None:
            self._under_way[key] -= 1
            self._counters.settled(self._peer, 1)

        def on_sent(count: int) -> None:
            self._counters.sent(self._peer, count)

        return Delivery(self._peer, self._header, self._config, self._turns.pipe_bytes, on_sent, on_receipt)

    async def _carry(self, key: _Round, delivery: Delivery) -> None:
        number = key[1]
        try:
            first = await delivery.first()
            await self._turns.turn(first.tag, len(first.payload))
            await delivery.run(self._stub, lambda why: self._on_break(self._peer, number, why))
        except Undelivered as undelivered:
            self._on_undelivered(self._peer, number, str(undelivered))
        finally:
            self._rounds.pop(key, None)
            self._counters.settled(self._peer, self._under_way.pop(key, 0))
            self._on_round_over(self._peer, key[0])


def channel_options(config: ExchangeConfig) -> list[tuple[str, int]]:
    """Channel and server options: explicit limits, BDP probing on (a 64 KiB window starves long links).

    A connection whose bytes have not been acknowledged for `patience_s` is given up on either side, and an attempt to
    connect after half of that: TCP alone, whose timer doubles, takes as long to notice the end of a cut as the cut
    lasted. gRPC's core sets TCP_USER_TIMEOUT to keepalive_timeout_ms wherever keepalive_time_ms is given; that is so
    long that no ping is ever sent.
    """
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
        ("grpc.min_reconnect_backoff_ms", round(500 * config.patience_s)),
        ("grpc.keepalive_time_ms", _NEVER_MS),
        ("grpc.keepalive_timeout_ms", round(1000 * config.patience_s)),
    ]
