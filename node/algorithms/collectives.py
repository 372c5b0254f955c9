"""The exchanges that algorithms are made of: gossip with neighbours, averaging by a server, ring all-reduce.

Each is a coroutine over Send and Receive. Sums are taken in one fixed order, so that the result does
not depend on which parcel came first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gannet.node.codecs import Codec, build_codec
from gannet.node.topologies.topology import Neighbourhood
from gannet.node.training.effects import RAW_PART, BeginRound, PeerLost, Receive, Send, Tag

# Of a server average: enough to fill a worker's share of the path where gannet.fabrics.session.deadlines sizes
# segments.
SEGMENTS_AHEAD = 8


# Whom a node mixes with in a gossip round, by the round's number.
Mixing = Callable[[int], Neighbourhood]


class CollectiveFailed(Exception):
    """A centralized average that cannot be completed without the lost peer."""


@dataclass
class Peers:
    """This node's place among the others and the codec they share; counts what it hands to the network."""

    rank: int
    world: int
    codec: Codec
    segment_bytes: int
    round: int = 0
    codec_bytes: int = 0
    missing: set[int] = field(default_factory=set)
    raw_codec: Codec = field(default_factory=lambda: build_codec("fp32"))
    in_turns: bool = (
        False  # whether gossip's graph changes, so that parcels take turns (see gannet.node.exchange.turn_rule)
    )
    _gossiped: tuple[int, frozenset[int]] = (-1, frozenset())  # the last round in turns, and who was sent to

    def next_round(self) -> int:
        """Number of the next exchange round; all nodes of a synchronous algorithm count alike."""
        self.round += 1
        return self.round

    async def begin_round(self, number: int, here: Neighbourhood) -> None:
        """Have the parcels of a gossip round take turns with those of the round before, where the graph changes."""
        if not self.in_turns:
            return
        before, sent_to = self._gossiped
        after = sent_to | {*here.outgoing} if before == number - 1 and sent_to != {*here.outgoing} else ()
        self._gossiped = number, frozenset(here.outgoing)
        await BeginRound(number, tuple(here.incoming), tuple(sorted(after)))

    async def send(self, to: int, tag: Tag, body: memoryview, last: bool = True) -> None:
        """Hand an encoded body to the network."""
        self.codec_bytes += len(body)
        await Send(to, tag, body, last)

    async def receive(self, source: int, tag: Tag, count: int) -> Tensor:
        """Flat float32 tensor of `count` values, or PeerLost."""
        return self.decode(source, tag, await Receive(source, tag), count)

    def codec_of(self, tag: Tag) -> Codec:
        """What packs that part: float32 where its number says so."""
        return self.raw_codec if tag.part & RAW_PART else self.codec

    def decode(self, source: int, tag: Tag, body: memoryview, count: int) -> Tensor:
        """The `count` values of a body that came, or PeerLost."""
        values = self.codec_of(tag).decode(body)
        if len(values) != count:
            raise PeerLost(source, f"parcel of {len(values)} values where {count} were expected")
        return values


class GossipRound:
    """One gossip round in two halves, so that a gradient can be computed while parcels travel."""

    def __init__(self, peers: Peers, x: Tensor, neighbours: Mixing) -> None:
        self._peers, self._x = peers, x
        self._tag = Tag(peers.next_round(), 0)
        self._neighbours = neighbours(self._tag.round)

    async def begin(self) -> GossipRound:
        """Send x (flat float32) to the out-neighbours."""
        await self._peers.begin_round(self._tag.round, self._neighbours)
        if self._neighbours.outgoing:
            body = self._peers.codec.encode(self._x)
            rank, world = self._peers.rank, self._peers.world
            # Nearest onward first: so no two nodes begin with the same neighbour and crowd its downlink.
            for to in sorted(self._neighbours.outgoing, key=lambda to: (to - rank) % world):
                await self._peers.send(to, self._tag, body)
        return self

    async def finish(self) -> Tensor:
        """Σ_j w_ij x_j as a new flat tensor. A missing peer's weight goes to self, so weights sum to 1."""
        mixed = self._x * self._neighbours.own
        for source, weight in self._neighbours.incoming.items():
            try:
                values = await self._peers.receive(source, self._tag, len(self._x))
            except PeerLost as lost:
                self._peers.missing.add(lost.rank)
                values = self._x
            mixed.add_(values, alpha=weight)
        return mixed


async def gossip(peers: Peers, x: Tensor, neighbours: Mixing, rounds: int = 1) -> Tensor:
    """W^t x for this node: `rounds` gossip rounds. x is a flat float32 tensor and stays as it was.

    Where the graph changes from round to round, so does W: W_{k+t} ⋯ W_{k+1} x.
    """
    for _ in range(rounds):
        x = await (await GossipRound(peers, x, neighbours).begin()).finish()
    return x


async def server_average(peers: Peers, x: Tensor, server: int = 0, raw: int = 0) -> Tensor:
    """Mean of all nodes' x by way of a star: rank `server` averages and sends the mean back.

    Cut into segments, so that the mean of the first travels down while the last still comes up. A worker
    is at most SEGMENTS_AHEAD segments ahead of the means: else TCP lets one worker run ahead of the others
    into the server's downlink, overflows its buffer, and most means can be taken only at the very end.
    The server averages over those who are there; without the server there is no average.
    The last `raw` values travel as float32 whatever the codec.
    """
    if peers.world == 1:
        return x.clone()
    number = peers.next_round()
    pieces = server_pieces(peers.codec, peers.segment_bytes, len(x), raw)
    mean = torch.empty_like(x)
    if peers.rank != server:
        last = len(pieces) - 1
        for part in range(len(pieces) + SEGMENTS_AHEAD):
            if (back := part - SEGMENTS_AHEAD) >= 0:
                piece = pieces[back]
                tag = piece.tag(number, back)
                mean[piece.place] = (await _or_fail(peers, server, tag, piece, "server average"))[1]
            if part <= last:
                tag = pieces[part].tag(number, part)
                body = peers.codec_of(tag).encode(x[pieces[part].place])
                await peers.send(server, tag, body, part == last)
        return mean
    workers = [rank for rank in range(peers.world) if rank != server]
    absent: set[int] = set()  # for the rest of this round, so that one silence is not waited for again and again
    for part, piece in enumerate(pieces):
        tag = piece.tag(number, part)
        total, present = x[piece.place].clone(), 1
        for rank in workers:
            if rank in absent:
                continue
            try:
                total += await peers.receive(rank, tag, len(total))
                present += 1
            except PeerLost:
                absent.add(rank)
        body = peers.codec_of(tag).encode(total / present)
        for rank in workers:
            await peers.send(rank, tag, body, part == len(pieces) - 1)
        mean[piece.place] = peers.codec_of(tag).decode(body)  # what the workers get, bit for bit
    peers.missing |= absent
    return mean


async def ring_all_reduce(peers: Peers, x: Tensor, raw: int = 0) -> Tensor:
    """Mean of all nodes' x by ring all-reduce: reduce-scatter, then all-gather, 2(M−1) hops of n/M values.

    Every hop is cut into pieces and a piece is passed on as soon as it is there, so a hop's delay is
    hidden behind the pieces that follow: about 2(M−1)/M · n ÷ rate + 2(M−1) · delay where the delay
    fits under a segment's transfer, instead of the sum of both at each hop.

    A codec with loss packs every partial sum anew, M−1 times, and the mean once: what its owner packed goes
    around as it is, so that all nodes have the same bits. The last `raw` values travel as float32.
    """
    world, rank = peers.world, peers.rank
    if world == 1:
        return x.clone()
    number = peers.next_round()
    right, left = (rank + 1) % world, (rank - 1) % world
    total, hops = x.clone(), 2 * (world - 1)
    pieces = ring_pieces(peers.codec, peers.segment_bytes, world, len(x), raw)
    per_hop = len(pieces[0])

    async def pass_on(hop: int, index: int, piece: Piece, body: memoryview | None) -> None:
        part = hop * per_hop + index
        tag = piece.tag(number, part)
        if body is None:
            body = peers.codec_of(tag).encode(total[piece.place])
        await peers.send(right, tag, body, part == hops * per_hop - 1)

    for index, piece in enumerate(pieces[rank]):
        await pass_on(0, index, piece, None)
    for hop in range(hops):
        for index, piece in enumerate(pieces[(rank - hop - 1) % world]):
            tag = piece.tag(number, hop * per_hop + index)
            body, values = await _or_fail(peers, left, tag, piece, "ring all-reduce")
            if hop < world - 1:
                total[piece.place] += values
            else:
                total[piece.place] = values
            if hop == world - 2:  # this node now owns the sum: take what the others will decode
                body = peers.codec_of(tag).encode(total[piece.place] / world)
                total[piece.place] = peers.codec_of(tag).decode(body)
            if hop < hops - 1:
                await pass_on(hop + 1, index, piece, None if hop < world - 2 else body)
    return total


async def _or_fail(peers: Peers, source: int, tag: Tag, piece: Piece, what: str) -> tuple[memoryview, Tensor]:
    """(body, its values) of a part without which there is no average."""
    try:
        body = await Receive(source, tag)
        return body, peers.decode(source, tag, body, piece.place.stop - piece.place.start)
    except PeerLost as lost:
        raise CollectiveFailed(
            f"{what} of round {tag.round} cannot be completed without rank {lost.rank} ({lost.reason}); "
            "a gossip algorithm (dp-oadam, dposg) goes on without a lost peer"
        ) from lost


class Piece(NamedTuple):
    """A part of an averaged vector: where it lies, and whether it travels as float32 whatever the codec."""

    place: slice
    raw: bool = False

    def tag(self, number: int, part: int) -> Tag:
        """The tag of this piece as part `part` of round `number`."""
        return Tag(number, part | RAW_PART if self.raw else part)

    def wire_bytes(self, codec: Codec) -> int:
        """Length of the body in an exchange with that codec, bytes."""
        count: int = self.place.stop - self.place.start
        return 4 * count if self.raw else codec.wire_bytes(count)


def server_pieces(codec: Codec, segment_bytes: int, count: int, raw: int = 0) -> list[Piece]:
    """What a server average cuts `count` values into, the last `raw` of them sent as float32."""
    pieces = [Piece(place) for place in _cut(codec, segment_bytes, 0, count - raw, count - raw)]
    if raw:
        exact = build_codec("fp32")
        pieces += [Piece(place, True) for place in _cut(exact, segment_bytes, count - raw, count, raw)]
    return pieces


def ring_pieces(codec: Codec, segment_bytes: int, world: int, count: int, raw: int = 0) -> list[list[Piece]]:
    """The pieces of each node's share of an all-reduce, as many for every node."""
    ranges = [(codec, 0, count - raw, False)]
    if raw:
        ranges.append((build_codec("fp32"), count - raw, count, True))
    shares: list[list[Piece]] = [[] for _ in range(world)]
    for packer, begin, end, as_it_is in ranges:
        for rank, share in enumerate(shares):
            start, stop = (begin + k * (end - begin) // world for k in (rank, rank + 1))
            places = _cut(packer, segment_bytes, start, stop, (end - begin) // world + 1)
            share += [Piece(place, as_it_is) for place in places]
    return shares


def _cut(codec: Codec, segment_bytes: int, start: int, stop: int, of: int) -> list[slice]:
    """[start, stop) in even pieces of at most `segment_bytes` on the wire, as many as `of` values need.

    Cut at whole buckets of the codec, so that pieces have no more of them than the vector had.
    """
    grain, values = codec.grain, _values_in(codec, segment_bytes)
    number, grains = -(-max(1, of) // values), -(-(stop - start) // grain)
    edges = [min(stop, start + grain * (grains * k // number)) for k in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _values_in(codec: Codec, segment_bytes: int) -> int:
    """How many values fill a segment: whole buckets, and one at least."""
    grains = bisect_right(range(1, 1 + segment_bytes), segment_bytes, key=lambda k: codec.wire_bytes(k * codec.grain))
    return max(1, grains) * codec.grain
