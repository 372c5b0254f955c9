"""A node's exchange over gRPC: lives in the gRPC event loop, serves the training thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

import grpc.aio

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.blocking_mailbox import BlockingMailbox, RunAborted
from gannet.node.exchange.chunk_wire import ExchangeStub, add_to_server
from gannet.node.exchange.counters import Counters
from gannet.node.exchange.delivery import Outgoing
from gannet.node.exchange.gate import Gate
from gannet.node.exchange.impatience import WaitReport
from gannet.node.exchange.mailbox import Mailbox, Refusal
from gannet.node.exchange.sender import PeerStream, channel_options
from gannet.node.exchange.server import ExchangeServer
from gannet.node.exchange.tls import Credentials, open_channel
from gannet.node.exchange.turn_streams import TurnKeeper
from gannet.node.training.effects import Arrival, PeerLost, Tag
from gannet.node.wire import exchange_pb2

WARM_UP = Tag(0, 0)
_HEAL_S = 5.0  # for a connection over links that are back; it is tried on after that, as rounds are delivered
log = logging.getLogger(__name__)

RefusalReport = Callable[[int, int, str, str], None]  # sender, receiver, verdict, detail


class GrpcExchange:
    """Send and receive messages. `send` and `receive` are for the training thread, the rest for the loop."""

    def __init__(
        self,
        rank: int,
        world: int,
        mailbox: Mailbox,
        config: ExchangeConfig,
        on_refusal: RefusalReport,
        on_wait: WaitReport,
        in_turns: bool = False,
        tls: Credentials | None = None,
    ) -> None:
        """`tls`: encrypt all connections, with peers that have certificates of this run."""
        self.rank, self.world, self._config = rank, world, config
        self.inbox = BlockingMailbox(mailbox, on_wait)
        self._on_wait = on_wait
        self._on_refusal = on_refusal
        self._header = exchange_pb2.Header(run=mailbox.run, sender=rank, schema=mailbox.schema)
        self._streams: dict[int, PeerStream] = {}
        self._peers: set[int] = set()  # all that this node ever sends to
        self._players = range(len(mailbox.codecs))
        self._room: dict[tuple[int, int], threading.BoundedSemaphore] = {}  # of each peer's present stream, by player
        self._where: dict[int, tuple[str, str]] = {}  # by rank: address, and name of its certificate
        # By peer and player: the last round, and if there was room.
        self._opened: dict[tuple[int, int], tuple[int, bool]] = {}
        self._losses = 0  # how many the algorithm knows
        self.counters = Counters()
        self._turns = TurnKeeper(config, in_turns)
        # A round is a stream, and one that broke may be open here for a while beside its successor.
        self._most_streams = 2 * (mailbox.window_rounds + 2) * len(mailbox.codecs)
        self._gate = Gate(self._most_streams, tls is not None, len(mailbox.codecs))
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: grpc.aio.Server | None = None

    async def serve(self, address: str) -> str:
        """Open the server on host:port (port 0: any); returns the address with its port."""
        self._loop = asyncio.get_running_loop()
        # Of one connection: more than the gate lets one peer have, so that it says so itself.
        most = ("grpc.max_concurrent_streams", 4 * self._most_streams + 16)
        self._server = grpc.aio.server(options=[*channel_options(self._config), most])
        run, idle_s = self._header.run, self._config.round_deadline_s
        self._servicer = ExchangeServer(
            self.inbox, self._turns, run, self._gate, idle_s, self._config.chunk_bytes, self._refused_here
        )
        add_to_server(self._servicer, self._server)
        if self._tls is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self._tls.server())
        await self._server.start()
        return f"{address.rsplit(':', 1)[0]}:{port}"

    async def connect(self, addresses: list[str], peers: set[int], names: Sequence[str] = ()) -> None:
        """Let the members at these addresses in, open a channel to each of `peers` (ranks), and wait for all.

        `names`: of their certificates, by rank, where connections are encrypted.
        """
        self._gate.admit(addresses, names)
        self._peers = set(peers)
        self._where = {rank: (at, names[rank] if self._tls else "") for rank, at in enumerate(addresses)}
        for peer in sorted(peers):
            if addresses[peer]:
                self._streams[peer] = self._stream_to(peer)
        await asyncio.gather(*(s.connect(self._config.chunk_deadline_s * 4) for s in self._streams.values()))

    def _stream_to(self, peer: int) -> PeerStream:
        room = {player: threading.BoundedSemaphore(self._config.window_rounds) for player in self._players}
        self._room |= {(peer, player): free for player, free in room.items()}
        address, name = self._where[peer]
        return PeerStream(
            peer,
            address,
            self._header,
            self._config,
            self.counters,
            self._turns,
            self._broken,
            self._undelivered,
            lambda _, player: room[player].release(),
            self._tls,
            name,
        )

    async def fetch_state(self, address: str, name: str = "") -> bytes:
        """The state that a neighbour offers this node, over the network that its messages cross."""
        data = bytearray()
        async with open_channel(address, channel_options(self._config), self._tls, name) as channel:
            stub = ExchangeStub(channel)
            request = exchange_pb2.Listener(run=self._header.run, rank=self.rank)
            async for chunk in stub.Fetch(request, timeout=self._config.liveness_s, wait_for_ready=True):
                data += chunk.data
        return bytes(data)

    def expect_at(self, rank: int, address: str, name: str = "") -> None:
        """A node that comes back is at this address, with that certificate, and may ask for a state."""
        self._gate.move(rank, address, name)

    def offer_state(self, rank: int, state: bytes) -> None:
        """Let a node that comes back fetch this state, until it is in."""
        self._servicer.offered[rank] = state

    async def readmit(self, rank: int, address: str, rounds: Sequence[int], name: str = "") -> None:
        """A lost peer is back at this address, with that certificate; all continue in these rounds.

        Nothing it had sent before counts.
        """
        self._servicer.offered.clear()
        self._gate.move(rank, address, name)
        self._where[rank] = address, name
        self._turns.turns.readmit(rank)
        self.inbox.readmit(rank, rounds)
        await self._open_again(rank, self._config.chunk_deadline_s * 4)

    def cut(self, rank: int, reason: str) -> None:
        """The links to that peer are cut: do without it until `heal`, and drop what is in flight to it."""
        self.inbox.cut(rank, reason)
        self._turns.turns.lose(rank)
        if rank in self._streams:
            self._streams[rank].lose()

    async def heal(self, rank: int, rounds: Sequence[int]) -> None:
        """The links to that peer are back, and all continue in these rounds."""
        self._turns.turns.readmit(rank)
        self.inbox.heal(rank, rounds)
        await self._open_again(rank, _HEAL_S)

    async def _open_again(self, rank: int, deadline_s: float) -> None:
        before = self._streams.pop(rank, None)
        if before is not None:
            await before.close()
        if rank in self._peers:
            self._streams[rank] = self._stream_to(rank)
            await self._streams[rank].connect(deadline_s)

    def leave(self, step: int) -> None:
        """The run is over in the middle of an exchange: nothing more is sent or received."""
        self.inbox.leave(step)
        for stream in self._streams.values():
            stream.lose()

    async def drain(self, timeout_s: float) -> None:
        """Wait until every segment that was sent has its receipt."""
        await asyncio.gather(*(stream.drain(timeout_s) for stream in self._streams.values()))

    async def close(self) -> None:
        """End all streams and the server; what is still in flight is dropped."""
        await asyncio.gather(*(stream.close() for stream in self._streams.values()))
        if self._server is not None:
            await self._server.stop(0)

    @property
    def grpc_bytes(self) -> int:
        """Serialised exchange messages handed to gRPC so far, bytes."""
        return self.counters.sent_bytes

    def lose(self, rank: int, reason: str) -> None:
        """That peer is lost permanently: all waits for it end, nothing waits for its turn or to reach it.

        For the loop.
        """
        self.inbox.lose(rank, reason)
        self._turns.turns.lose(rank)
        if rank in self._streams:
            self._streams[rank].lose()

    def begin_round(self, number: int, sources: Sequence[int], after: Sequence[int]) -> None:
        """Make this round's messages wait for their turn; see gannet.node.exchange.turn_rule."""
        if self._loop is None:
            raise RuntimeError("a round before serve")
        self._loop.call_soon_threadsafe(self._turns.turns.begin, number, sources, after)

    def send(self, to: int, tag: Tag, payload: memoryview, last: bool) -> None:
        """Queue a segment for `to`. Blocks only while the window of rounds to that peer is full."""
        if self.inbox.is_lost(to):
            return
        if not self._has_room(to, tag):
            return  # the peer will miss this round's messages; the controller decides whether it is lost
        if self._loop is None:
            raise RuntimeError("send before serve")
        self._loop.call_soon_threadsafe(self._streams[to].submit, Outgoing(tag, payload, last))

    def _has_room(self, to: int, tag: Tag) -> bool:
        """Whether the window of rounds to that peer takes this round, asked and waited for at its first segment."""
        key = (to, tag.player)
        opened, taken = self._opened.get(key, (-1, False))
        if opened == tag.round:
            return taken
        patience_s, room, taken = self._config.patience_s, self._room[key], False
        for wait_s in self.inbox.impatience.times_s(to, tag.round, patience_s):
            if taken := room.acquire(timeout=wait_s):
                break
        taken = taken or room.acquire(timeout=self._config.round_deadline_s - patience_s)
        if not taken:
            log.warning("round %d is not sent to rank %d: it takes no more", tag.round, to)
        self._opened[key] = (tag.round, taken)
        return taken

    def receive(self, source: int, tag: Tag) -> memoryview:
        """Block for a segment; see BlockingMailbox.receive."""
        begin = time.monotonic()
        try:
            payload = self.inbox.receive(source, tag, self._config.patience_s, self._config.round_deadline_s)
        except PeerLost:
            self.counters.missed(source, tag, time.monotonic() - begin)
            raise
        self.counters.received(source, tag, len(payload), time.monotonic() - begin)
        return payload

    def receive_first(self, wanted: Sequence[tuple[int, Tag]]) -> tuple[int, memoryview | PeerLost]:
        """Block for whichever of these segments comes first; see BlockingMailbox.receive_first."""
        begin = time.monotonic()
        index, outcome = self.inbox.receive_first(wanted, self._config.patience_s, self._config.round_deadline_s)
        (source, tag), wait_s = wanted[index], time.monotonic() - begin
        if isinstance(outcome, PeerLost):
            self.counters.missed(source, tag, wait_s)
        else:
            self.counters.received(source, tag, len(outcome), wait_s)
        return index, outcome

    def losses(self) -> tuple[int, ...]:
        """See Mailbox.losses. What is in flight of an average that is begun again is dropped."""
        lost = self.inbox.losses()
        if len(lost) > self._losses and self._loop is not None:
            self._losses = len(lost)
            self._loop.call_soon_threadsafe(self._abandon)
        return lost

    def _abandon(self) -> None:
        for stream in self._streams.values():
            stream.abandon()

    def collect(self, wait: bool) -> list[Arrival]:
        """All segments that have arrived, from any peer; see BlockingMailbox.collect."""
        begin = time.monotonic()
        arrivals = self.inbox.collect(wait, self._config.round_deadline_s)
        share_s = (time.monotonic() - begin) / max(1, len(arrivals))
        for source, tag, outcome in arrivals:
            if not isinstance(outcome, PeerLost):
                self.counters.received(source, tag, len(outcome), share_s)
        return arrivals

    def warm_up(self, payload: memoryview, incoming: set[int], outgoing: set[int]) -> None:
        """Send a first message over every channel and wait for the peers': TCP and HTTP/2 windows open up."""
        self.inbox.impatience.moves()
        for to in sorted(outgoing):
            self.send(to, WARM_UP, payload, True)
        for source in sorted(rank for rank in incoming if self._where[rank][0]):  # others join later
            try:
                self.receive(source, WARM_UP)
            except PeerLost as lost:
                raise RunAborted(f"rank {self.rank} hears nothing from rank {source}: {lost.reason}") from lost

    def _refused_here(self, sender: int, refusal: Refusal) -> None:
        self._on_refusal(sender, self.rank, refusal.verdict.name.lower(), refusal.detail)

    def _broken(self, peer: int, number: int, reason: str) -> None:
        log.info("the stream of round %d to rank %d broke, and is opened again: %s", number, peer, reason)
        if not self.inbox.is_lost(peer):
            self._on_wait(peer, number, False)

    def _undelivered(self, peer: int, number: int, reason: str) -> None:
        log.warning("round %d could not be delivered to rank %d: %s", number, peer, reason)
        if not self.inbox.is_lost(peer):
            self._on_wait(peer, number, False)
