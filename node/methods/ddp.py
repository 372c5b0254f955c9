"""DDP: settings, capabilities, and formulas for the traffic of gloo's all-reduce and DDP's communication hooks.

gloo reduces around a ring from each rank to the one before. It divides a vector into N equal chunks of at least two
segments, at most 1 MiB each; rank r passes on every chunk but r, then the sums of every chunk but r − 1 (source:
gloo/allreduce.cc). Each segment also has a header and two messages by which sender and receiver agree on it, 48 bytes
each, which are not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from gannet.node.codecs.registry import CodecSetting, codec_config
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.base import Method
from gannet.node.methods.formulas import FlatVector, Group, Traffic
from gannet.node.topologies.weights import Edge

_LARGEST_SEGMENT_BYTES = 1 << 20
_LEAST_COMPRESSION = 2  # PowerSGDState's min_compression_rate


class DdpConfig(Method):
    """PyTorch's own data parallelism: DistributedDataParallel over gloo (Li et al., VLDB 2020), every step.

    `hook`: its communication hook. "none" sends float32, "fp16" half precision, "powersgd" matrices P, Q of rank
    `powersgd_rank` with error feedback (Vogels et al., NeurIPS 2019), from step `start_powersgd_iter` (counted
    from 0) on, and float32 before; the hook requires 2 at least. A player that sits out a step keeps its memory.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.ddp:ddp"
    not_in_islands: ClassVar[str] = "averages over all nodes"
    all_reduce: ClassVar[str] = "gannet.node.process.torch_ddp:DdpMean"
    gossips: ClassVar[bool] = False
    not_per_player: ClassVar[str] = "averages the gradients of all players at once, by PyTorch's own means"
    not_modelled: ClassVar[str] = (
        "runs PyTorch's own gloo, which the virtual fabric does not model: use fabric: namespaces, or algorithm "
        "cp-oadam with collective: ring, average: gradients, as many bytes"
    )

    not_encrypted: ClassVar[str] = (
        "runs PyTorch's own gloo, whose connections are not encrypted: leave it out, or use algorithm cp-oadam with "
        "collective: ring, average: gradients"
    )

    name: Literal["ddp"]
    hook: Literal["none", "fp16", "powersgd"] = "none"
    powersgd_rank: PositiveInt | None = None
    start_powersgd_iter: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _settings_of_powersgd(self) -> DdpConfig:
        given = [name for name in ("powersgd_rank", "start_powersgd_iter") if getattr(self, name) is not None]
        if given and self.hook != "powersgd":
            raise ValueError(f"{given[0]} belongs to hook powersgd, and the hook is {self.hook}: leave it out")
        return self

    @property
    def on_loss(self) -> tuple[str, ...]:
        """gloo's ring needs every node."""
        return ("stop",)

    @property
    def rank(self) -> int:
        """Rank of PowerSGD's matrices."""
        return self.powersgd_rank or 1

    @property
    def start(self) -> int:
        """Number of first steps that PowerSGD leaves uncompressed."""
        return self.start_powersgd_iter or 2

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        if self.hook != "powersgd":
            return {}
        return {"start_powersgd_iter": (self.start + 1, "PowerSGD compresses")}

    def check_codec(self, codec: CodecSetting) -> None:
        """The hook packs, not the codec."""
        if not codec_config(codec).traits.exact:
            raise ValueError(
                f"codec {codec}: ddp compresses by its own communication hook: leave codec at fp32, "
                "and set algorithm.hook to fp16 or powersgd"
            )

    def edges(self, group: Group) -> tuple[Edge, ...]:
        """gloo's ring."""
        ranks = range(group.world) if group.world > 1 else ()
        return tuple(sorted(Edge(rank, (rank - 1) % group.world) for rank in ranks))

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """A step that compresses: the hook's all-reduces, one after the other; next to them that of running
        statistics.
        """
        if not vector.layout:
            raise ValueError("the traffic of ddp depends on the shapes of the task's tensors: give its layout")
        vectors = [reduced for reduced in vectors_of(self, vector.layout, self.start) if reduced.values]
        apart = any(spec.player == BUFFERS for spec in vector.layout)
        world = group.world
        sent = tuple(sum(ring_sent_bytes(*reduced, rank, world) for reduced in vectors) for rank in range(world))
        received = tuple(sent[(rank + 1) % world] for rank in range(world))
        hops = 2 * (world - 1) * (len(vectors) - apart)
        return Traffic(self.edges(group), sent, received, hops, (max(sent), max(received)), 1, around=True)


class Vector(NamedTuple):
    """Operand of one all-reduce: number of values, and bytes per value."""

    values: int
    item_bytes: int


def ring_sent_bytes(values: int, item_bytes: int, rank: int, world: int) -> int:
    """Bytes that `rank` sends in gloo's all-reduce of a vector, without headers: 2(N−1)/N of it but for rounding."""
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
    it; all else is sent before, uncompressed. r is at most n and m, and a tensor's n is its first dimension.
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
