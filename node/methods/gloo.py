"""What gloo's all-reduce and DDP's communication hooks send, by formula: known before anything is sent.

gloo reduces around a ring from each rank to the one before. Of a vector it makes N equal chunks of at least two
segments, at most 1 MiB each; rank r passes on every chunk but r, then, of the sums, every chunk but r − 1 (its
source, gloo/allreduce.cc). Beside a segment go its header and two
messages by which sender and receiver agree on it, 48 bytes each, which are not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import NamedTuple

from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.ddp import DdpConfig

_LARGEST_SEGMENT_BYTES = 1 << 20
_LEAST_COMPRESSION = 2  # PowerSGDState's min_compression_rate


class Vector(NamedTuple):
    """What one all-reduce sums: how many values of how many bytes."""

    values: int
    item_bytes: int


def ring_sent_bytes(values: int, item_bytes: int, rank: int, world: int) -> int:
    """Bytes that `rank` sends in gloo's all-reduce of a vector, headers apart: 2(N−1)/N of it but for rounding."""
    total = values * item_bytes
    if world == 1 or not total:
        return 0
    per_rank = max(2, ceil(ceil(total / _LARGEST_SEGMENT_BYTES) / world))
    segment = ceil(ceil(total / (per_rank * world)) / item_bytes) * item_bytes

    def chunk(number: int) -> int:
        return min(per_rank * segment, max(0, total - number % world * per_rank * segment))

    return 2 * total - chunk(rank) - chunk(rank - 1)


def vectors_of(config: DdpConfig, layout: Sequence[TensorSpec], step: int) -> list[Vector]:
    """The all-reduces of a gradient step (from 0), in order: of the hook, and of running statistics if there are any.

    PowerSGD (Vogels et al. 2019) sends an n × m matrix as P, n × r, then Q, m × r, where that is less than half of
    it; all else goes before, as it is. r is at most n and m, and a tensor's n is its first dimension.
    """
    shapes = [spec.shape for spec in layout if spec.player != BUFFERS]
    statistics = sum(prod(spec.shape) for spec in layout if spec.player == BUFFERS)
    vectors = [Vector(sum(map(prod, shapes)), 2 if config.hook == "fp16" else 4)]
    if config.hook == "powersgd" and step >= config.start:
        whole = left = right = 0
        for shape in shapes:
            n, m = shape[0], prod(shape[1:])
            r = min(n, m, config.rank)
            if (n + m) * r * _LEAST_COMPRESSION < n * m:
                left, right = left + n * r, right + m * r
            else:
                whole += n * m
        vectors = [Vector(whole, 4), Vector(left, 4), Vector(right, 4)]
    if statistics:
        vectors.append(Vector(statistics, 4))
    return vectors
