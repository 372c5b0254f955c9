"""Cuts a vector for a collective. Imports no torch."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from gannet.node.codecs import Codec, float32_codec
from gannet.node.training.effects import RAW_SEGMENT, Tag


class Segment(NamedTuple):
    """A slice of an averaged vector: its place, and whether it is sent as float32 whatever the codec."""

    place: slice
    raw: bool = False

    def tag(self, number: int, position: int) -> Tag:
        """The tag of this segment as position `position` of round `number`."""
        return Tag(number, position | RAW_SEGMENT if self.raw else position)

    def wire_bytes(self, codec: Codec) -> int:
        """Length of the payload in an exchange with that codec, bytes."""
        count: int = self.place.stop - self.place.start
        return 4 * count if self.raw else codec.wire_bytes(count)


def server_segments(codec: Codec, segment_bytes: int, count: int, raw: int = 0) -> list[Segment]:
    """Segments into which a server average cuts `count` values, the last `raw` of them sent as float32."""
    segments = [Segment(place) for place in _cut(codec, segment_bytes, 0, count - raw, count - raw)]
    if raw:
        exact = float32_codec()
        segments += [Segment(place, True) for place in _cut(exact, segment_bytes, count - raw, count, raw)]
    return segments


def ring_segments(codec: Codec, segment_bytes: int, world: int, count: int, raw: int = 0) -> list[list[Segment]]:
    """The segments of each node's share of an all-reduce, as many for every node."""
    ranges = [(codec, 0, count - raw, False)]
    if raw:
        ranges.append((float32_codec(), count - raw, count, True))
    shares: list[list[Segment]] = [[] for _ in range(world)]
    for packer, begin, end, as_it_is in ranges:
        for rank, share in enumerate(shares):
            start, stop = (begin + k * (end - begin) // world for k in (rank, rank + 1))
            places = _cut(packer, segment_bytes, start, stop, (end - begin) // world + 1)
            share += [Segment(place, as_it_is) for place in places]
    return shares


def _cut(codec: Codec, segment_bytes: int, start: int, stop: int, of: int) -> list[slice]:
    """[start, stop) in even segments of at most `segment_bytes` on the wire, as many as `of` values need.

    Cut at whole buckets of the codec, so that segments have no more of them than the vector had.
    """
    grain, values = codec.grain, _values_in(codec, segment_bytes)
    number, grains = -(-max(1, of) // values), -(-(stop - start) // grain)
    edges = [min(stop, start + grain * (grains * k // number)) for k in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _values_in(codec: Codec, segment_bytes: int) -> int:
    """Number of values that fill a segment: whole buckets, and one at least."""
    grains = bisect_right(range(1, 1 + segment_bytes), segment_bytes, key=lambda k: codec.wire_bytes(k * codec.grain))
    return max(1, grains) * codec.grain
