"""Network traffic of exchanges, by formula: gossip, a server average, a ring all-reduce.

Known before anything is sent; deadlines, probes and the report's lower bound all come from here. Graphs and codecs
are built when they are asked for: settings that use these formulas are read without NumPy and torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import sqrt
from typing import TYPE_CHECKING, Literal, Protocol

from gannet.node.codecs import Codec, build_codec
from gannet.node.layout import TensorSpec
from gannet.node.methods.segments import ring_segments, server_segments
from gannet.node.topologies.weights import Edge

if TYPE_CHECKING:
    from gannet.node.codecs.registry import CodecSetting
    from gannet.node.data.config import DataConfig
    from gannet.node.topologies.setting import TopologySetting
    from gannet.node.topologies.topology import Topology

Collective = Literal["server", "ring"]


@dataclass(frozen=True)
class Traffic:
    """One exchange of an algorithm among `world` nodes.

    `edges`: directed edges that carry messages. `sent`, `received`: payload bytes by rank.
    `hops`: transfers that must follow one another, and `in_turn`: payload bytes sent, and received, one behind the
    other in these. That is less than the busiest node's where no receiver waits until the sender has sent all its
    copies (gossip on a star). `every`: gradient steps from one exchange to the next.
    `around`: the hops go around a ring, segment by segment. `changing`: each exchange has its own edges; `edges` is
    then the union over all exchanges, and bytes are averages over exchanges.
    """

    edges: tuple[Edge, ...]
    sent: tuple[int, ...]
    received: tuple[int, ...]
    hops: float
    in_turn: tuple[int, int]
    every: int
    around: bool = False
    changing: bool = False


class Limits(Protocol):
    """See gannet.node.config.ExchangeConfig."""

    @property
    def segment_bytes(self) -> int: ...


class OptimizerSettings(Protocol):
    """See gannet.node.config.OptimizerConfig."""

    @property
    def beta1(self) -> float: ...

    @property
    def beta2(self) -> float: ...

    def rate_of(self, player: str) -> float:
        """The learning rate of that player."""
        ...


class ExchangeSettings(Protocol):
    """Settings besides the method's own that traffic depends on; NodeConfig implements it."""

    @property
    def codec(self) -> CodecSetting: ...

    @property
    def topology(self) -> TopologySetting: ...

    @property
    def batch(self) -> int: ...

    @property
    def data(self) -> DataConfig: ...

    @property
    def exchange(self) -> Limits: ...


@dataclass(frozen=True)
class Group:
    """The nodes that exchange, `world` of them, and the settings that they share."""

    config: ExchangeSettings
    world: int

    @cached_property
    def topology(self) -> Topology:
        """The graph that they gossip on."""
        from gannet.node.topologies.topology import Topology

        return Topology(self.config.topology, self.world)

    @cached_property
    def codec(self) -> Codec:
        """A codec as the nodes use, for lengths."""
        return build_codec(self.config.codec)


@dataclass(frozen=True)
class FlatVector:
    """The exchanged vector: `values` float32 values, the last `raw` of which are sent as float32 whatever the codec.

    `layout`: the layout of its tensors; empty where it is not known.
    """

    values: int
    raw: int = 0
    layout: tuple[TensorSpec, ...] = ()

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The layout, or where it is not known one tensor of all values."""
        return self.layout or (TensorSpec("x", (self.values,), 0, ""),)


@cache
def collective_edges(kind: Collective, world: int) -> tuple[Edge, ...]:
    """Directed edges of a star around rank 0, or of a ring."""
    ranks = range(world)
    if world == 1:
        return ()
    if kind == "ring":
        return tuple(Edge(rank, (rank + 1) % world) for rank in ranks)
    return tuple(Edge(rank, 0) for rank in ranks[1:]) + tuple(Edge(0, rank) for rank in ranks[1:])


@cache
def farthest(edges: tuple[Edge, ...]) -> int:
    """Hops by way of rank 0 between the two ranks for which it takes most."""
    if not edges:
        return 0
    import networkx as nx

    graph = nx.DiGraph(edges)
    to, back = (nx.single_source_shortest_path_length(g, 0) for g in (graph, graph.reverse()))
    return max(to.values()) + max(back.values())


def size_of(layout: Iterable[TensorSpec]) -> int:
    """Number of values in a vector of that layout."""
    return sum(spec.place.stop - spec.start for spec in layout)


def copy_bytes(group: Group, vector: FlatVector) -> int:
    """The whole vector as payloads, bytes."""
    coarse = vector.values - vector.raw
    return (group.codec.wire_bytes(coarse) if coarse > 0 else 0) + 4 * vector.raw


def nothing(world: int) -> Traffic:
    """No exchange."""
    return Traffic((), (0,) * world, (0,) * world, 0, (0, 0), 1)


def gossip_traffic(
    group: Group,
    edges: tuple[Edge, ...],
    size: int,
    rounds: int,
    every: int,
    again: bool = True,
    transfers: int = 1,
) -> Traffic:
    """`rounds` of gossip in one exchange, `size` bytes along each edge of a round's graph.

    `again`: nothing else comes between it and the next. `transfers`: how many of them follow one another in a round.
    """
    topology = group.topology
    sent = tuple(int(rounds * size * copies) for copies in topology.sent_per_round)
    received = tuple(int(rounds * size * copies) for copies in topology.received_per_round)
    times, waits = (rounds, topology.waits_per_round) if again else (1, topology.waits(rounds))
    in_turn = int(times * size * waits.sent), int(times * size * waits.received)
    hops = times * waits.hops * transfers
    return Traffic(edges, sent, received, hops, in_turn, every, changing=topology.period != 1)


def average_traffic(
    group: Group, kind: Collective, vector: FlatVector, edges: tuple[Edge, ...], every: int
) -> Traffic:
    """One global average. A star's server takes and gives M−1 copies; a ring's 2(M−1) hops have 1/M of one each."""
    codec, segment_bytes, world = group.codec, group.config.exchange.segment_bytes, group.world
    if kind == "ring":
        shares = [
            sum(segment.wire_bytes(codec) for segment in share)
            for share in ring_segments(codec, segment_bytes, world, vector.values, vector.raw)
        ]
        hops = range(2 * (world - 1))
        sent = tuple(sum(shares[(rank - hop) % world] for hop in hops) for rank in range(world))
        received = tuple(sent[rank - 1] for rank in range(world))
        return Traffic(edges, sent, received, len(hops), (max(sent), max(received)), every, around=True)
    segments = server_segments(codec, segment_bytes, vector.values, vector.raw)
    size = sum(segment.wire_bytes(codec) for segment in segments)
    load = tuple((world - 1) * size if rank == 0 else size for rank in range(world))
    return Traffic(edges, load, load, 2, (max(load), max(load)), every)


def added(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Two nodes' counts by rank, added."""
    return tuple(a + b for a, b in zip(first, second, strict=True))


def longest_adam_step(beta1: float, beta2: float) -> float | None:
    """The longest step of one coordinate by Adam, in learning rates, whatever the gradients; None: there is none.

    By Cauchy and Schwarz |m_t| ≤ (1−β1) √(Σ_k (β1²/β2)^k) √(Σ_k β2^k g²_{t−k}), so that with the corrections of both
    moments, √(1−β2^t) ≤ 1 and 1−β1^t ≥ 1−β1,

        |step| / η ≤ 1 / √((1−β2) (1−β1²/β2)).
    """
    if beta1**2 >= beta2:
        return 1.0 if beta1 == 0 else None  # β1 = β2 = 0: the sign of the gradient
    return 1 / sqrt((1 - beta2) * (1 - beta1**2 / beta2))
