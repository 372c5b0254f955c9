"""The exchanges that algorithms are built from: gossip with neighbours, averaging by a server, ring all-reduce.

Each is a coroutine over Send and Receive. Sums are computed in a fixed order, so that the result does not depend on
the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gannet.node.methods.segments import Segment, ring_segments, server_segments
from gannet.node.training.effects import MembersChanged, MessageRefused, PeerLost, Receive, Tag
from gannet.node.training.peers import CollectiveFailed, Mixing, Peers

# In a server average: enough to fill a worker's share of the path with the segment size of
# gannet.fabrics.session.deadlines.
SEGMENTS_AHEAD = 8


class GossipRound:
    """One gossip round in two halves, so that a gradient can be computed while messages are in flight."""

    def __init__(self, peers: Peers, x: Tensor, neighbours: Mixing) -> None:
        self._peers, self._x = peers, x
        self._tag = Tag(peers.next_round(), 0)
        self._neighbours = neighbours(self._tag.round)

    async def begin(self) -> GossipRound:
        """Send x (flat float32) to the out-neighbours."""
        await self._peers.begin_round(self._tag.round, self._neighbours)
        if self._neighbours.outgoing:
            payload = self._peers.encode(self._x)
            rank, world = self._peers.rank, self._peers.world
            # Starting with the next rank, so that no two nodes begin with the same neighbour and crowd its downlink.
            for to in sorted(self._neighbours.outgoing, key=lambda to: (to - rank) % world):
                await self._peers.send(to, self._tag, payload)
        return self

    async def finish(self) -> Tensor:
        """Σ_j w_ij x_j as a new flat tensor, or what the mixing rule has for it. A missing peer's weight is added to
        the node's own, so weights sum to 1."""
        mix = self._peers.mixing.begin(self._x, self._neighbours.own)
        for source, weight in self._neighbours.incoming.items():
            try:
                values = await self._peers.peek(source, self._tag, len(self._x))
            except PeerLost as lost:
                self._peers.miss(lost)
                values = self._x
            mix.add(values, weight)
        return mix.result()


async def gossip(peers: Peers, x: Tensor, neighbours: Mixing, rounds: int = 1) -> Tensor:
    """W^t x for this node: `rounds` gossip rounds. x is a flat float32 tensor and is not changed.

    If the graph changes from round to round, so does W: W_{k+t} ⋯ W_{k+1} x.
    """
    for _ in range(rounds):
        x = await (await GossipRound(peers, x, neighbours).begin()).finish()
    return x


async def server_average(
    peers: Peers, x: Tensor, server: int = 0, raw: int = 0, members: Sequence[int] | None = None
) -> Tensor:
    """Mean of all nodes' x through a star: rank `server` averages and sends the mean back.

    The vector is cut into segments, so that the mean of the first is sent down while the last are still coming up. A
    worker is at most SEGMENTS_AHEAD segments ahead of the means; otherwise TCP lets one worker run ahead of the
    others into the server's downlink and overflow its buffer, and most means can be computed only at the very end.
    The server averages over the workers present, by its mixing rule; without the server there is no average. The
    last `raw` values are sent as float32 with any codec. `members`: the ranks that average, if not all.
    """
    ranks = range(peers.world) if members is None else members
    if len(ranks) == 1:
        return x.clone()
    number = peers.next_round()
    segments = server_segments(peers.codec, peers.segment_bytes, len(x), raw)
    mean = torch.empty_like(x)
    if peers.rank != server:
        last = len(segments) - 1
        for position in range(len(segments) + SEGMENTS_AHEAD):
            if (back := position - SEGMENTS_AHEAD) >= 0:
                segment = segments[back]
                tag = segment.tag(number, back)
                mean[segment.place] = (await _or_fail(peers, server, tag, segment, "server average"))[1]
            if position <= last:
                tag = segments[position].tag(number, position)
                payload = peers.encode(x[segments[position].place], tag)
                await peers.send(server, tag, payload, position == last)
        return mean
    workers = [rank for rank in ranks if rank != server]
    absent: set[int] = set()  # for the rest of this round, so that a silent worker is waited for only once
    for position, segment in enumerate(segments):
        tag = segment.tag(number, position)
        own, others = x[segment.place], []
        for rank in workers:
            if rank in absent:
                continue
            try:
                others.append(await peers.peek(rank, tag, len(own)))
            except MembersChanged:
                raise
            except PeerLost:
                absent.add(rank)
        payload = peers.encode(peers.mixing.equally(own, others), tag)
        for rank in workers:
            await peers.send(rank, tag, payload, position == len(segments) - 1)
        mean[segment.place] = peers.codec_of(tag).decode(payload)  # bit-equal to the workers' result
    peers.missing |= absent
    return mean


async def ring_all_reduce(peers: Peers, x: Tensor, raw: int = 0, members: Sequence[int] | None = None) -> Tensor:
    """Mean of all nodes' x by ring all-reduce: reduce-scatter, then all-gather, 2(M−1) hops of n/M values.

    Every hop is cut into segments, and a segment is forwarded as soon as it arrives, so a hop's delay is hidden by
    the segments that follow: about 2(M−1)/M · n ÷ rate + 2(M−1) · delay if the delay is shorter than a segment's
    transfer, instead of the sum of both for each hop.

    A lossy codec encodes every partial sum again, M−1 times, and the mean once: the owner's payload is forwarded
    unchanged, so that all nodes have the same bits. A partial sum of k values travels divided by the lowest power of
    two that is no less than k: it is then no larger than the largest of the values, so that where the codec can hold
    those of each node it can hold their sums. The last `raw` values are sent as float32. `members`: the ranks around
    the ring, if not all.
    """
    ranks = range(peers.world) if members is None else members
    world, rank = len(ranks), ranks.index(peers.rank)
    if world == 1:
        return x.clone()
    number = peers.next_round()
    right, left = ranks[(rank + 1) % world], ranks[(rank - 1) % world]
    total, hops = x.clone(), 2 * (world - 1)
    segments = ring_segments(peers.codec, peers.segment_bytes, world, len(x), raw)
    per_hop = len(segments[0])

    async def pass_on(hop: int, index: int, segment: Segment, payload: memoryview | None) -> None:
        position = hop * per_hop + index
        tag = segment.tag(number, position)
        if payload is None:
            payload = peers.encode(total[segment.place] / _scale(hop), tag)
        await peers.send(right, tag, payload, position == hops * per_hop - 1)

    for index, segment in enumerate(segments[rank]):
        await pass_on(0, index, segment, None)
    for hop in range(hops):
        for index, segment in enumerate(segments[(rank - hop - 1) % world]):
            tag = segment.tag(number, hop * per_hop + index)
            payload, values = await _or_fail(peers, left, tag, segment, "ring all-reduce")
            if hop < world - 1:
                total[segment.place].add_(values, alpha=_scale(hop))
            else:
                total[segment.place] = values
            if hop == world - 2:  # this node now owns the sum: use what the others will decode
                payload = peers.encode(total[segment.place] / world, tag)
                total[segment.place] = peers.codec_of(tag).decode(payload)
            if hop < hops - 1:
                await pass_on(hop + 1, index, segment, None if hop < world - 2 else payload)
    return total


def _scale(hop: int) -> int:
    """Divisor of the partial sum that a hop carries, of hop + 1 values: a power of two, which changes no digit."""
    return 1 << hop.bit_length()


async def _or_fail(peers: Peers, source: int, tag: Tag, segment: Segment, what: str) -> tuple[memoryview, Tensor]:
    """(payload, its values, to be read only) of a segment without which there is no average."""
    try:
        payload = await Receive(source, tag)
        return payload, peers.view(source, tag, payload, segment.place.stop - segment.place.start)
    except MembersChanged:
        raise
    except MessageRefused as refused:
        raise CollectiveFailed(
            f"{what} of round {tag.round} cannot be completed: from rank {refused.rank} came a {refused.reason}"
        ) from refused
    except PeerLost as lost:
        raise CollectiveFailed(
            f"{what} of round {tag.round} cannot be completed without rank {lost.rank} ({lost.reason}); "
            "a gossip algorithm (dp-oadam, dposg) continues without a lost peer"
        ) from lost
