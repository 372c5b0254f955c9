"""What an algorithm's exchange puts on the network: which edges, how many bytes, how many hops in a row.

Known before anything is sent, from the formulas of the methods; deadlines, probes and the report's
lower bound all come from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import networkx as nx

from node.codecs import build_codec
from node.collectives import ring_pieces, server_pieces
from node.config import GOSSIPS, CpOadamConfig, DdpConfig, DilocoConfig, FedganConfig, GossipPgaConfig, NodeConfig
from node.gloo import ring_sent_bytes, vectors_of
from node.tasks.base import BUFFERS, TensorSpec
from node.topology import Topology

Edge = tuple[int, int]

PUSH_WEIGHT_BYTES = 4  # that SGP sends beside every copy


@dataclass(frozen=True)
class Traffic:
    """One exchange of an algorithm among `world` nodes.

    `edges`: directed edges (sender, receiver) that carry parcels. `sent`, `received`: body bytes by rank.
    `hops`: transfers that must follow one another. `every`: gradient steps from one exchange to the next.
    `around`: the hops go around a ring, piece by piece. `changing`: each exchange has its own edges; `edges` are
    then all that there are at some time, the bytes those of an exchange on average.
    """

    edges: tuple[Edge, ...]
    sent: tuple[int, ...]
    received: tuple[int, ...]
    hops: int
    every: int
    around: bool = False
    changing: bool = False


def exchange_edges(config: NodeConfig, world: int) -> tuple[Edge, ...]:
    """Directed edges (sender, receiver) that the configured algorithm's parcels cross."""
    if config.algorithm.name == "local" or world == 1:
        return ()
    if config.algorithm.name == "ddp":
        return tuple(sorted((rank, (rank - 1) % world) for rank in range(world)))  # see node.gloo
    collective = _collective(config)
    edges = set(_edges(collective, world)) if collective else set()
    if config.algorithm.name in GOSSIPS:
        edges |= set(Topology(config.topology, world).edges())
    return tuple(sorted(edges))


def rounds_ahead(config: NodeConfig, world: int) -> int:
    """How many rounds a sender can be ahead of a receiver, at most.

    A node begins a round when it has the parcels of the one before, so it is at most as many rounds ahead
    of another as it takes edges to be reached from it. No two nodes are farther apart than by way of rank 0;
    for gossip see Topology.rounds_ahead. Where an algorithm has rounds of both kinds, both together are enough.
    """
    collective = _collective(config)
    ahead = _farthest(_edges(collective, world)) if collective else 0
    return ahead + (Topology(config.topology, world).rounds_ahead() if config.algorithm.name in GOSSIPS else 0)


def _collective(config: NodeConfig) -> Literal["server", "ring"] | None:
    """By what way the algorithm averages over all nodes, if it ever does."""
    match config.algorithm:
        case GossipPgaConfig(global_every=None):
            return None
        case CpOadamConfig(collective=collective) | GossipPgaConfig(collective=collective):
            return collective
        case DilocoConfig(collective=collective):
            return collective
        case FedganConfig():
            return "server"
    return None


@cache
def _edges(kind: str, world: int) -> tuple[Edge, ...]:
    everyone = range(world)
    if kind == "ring":
        return tuple((rank, (rank + 1) % world) for rank in everyone)
    return tuple((rank, 0) for rank in everyone if rank) + tuple((0, rank) for rank in everyone if rank)


@cache
def _farthest(edges: tuple[Edge, ...]) -> int:
    if not edges:
        return 0
    graph = nx.DiGraph(edges)
    to, back = (nx.single_source_shortest_path_length(g, 0) for g in (graph, graph.reverse()))
    return max(to.values()) + max(back.values())


def exchange_traffic(
    config: NodeConfig, world: int, values: int, raw: int = 0, layout: Sequence[TensorSpec] = ()
) -> Traffic:
    """Traffic of an exchange of a flat vector of `values` float32 values, `raw` of which are sent as they are.

    Gossip sends t copies along each edge (of the round's graph, where it changes); a star's server takes and
    gives M−1 copies; ring all-reduce sends 2(M−1) hops of 1/M each. Gossip-PGA's exchange is that of all its H steps,
    H − 1 gossips and a global average; of a ring's hops one is sure to be waited for, the others may overlap.
    DDP's needs the task's `layout`, and is that of a step which compresses.
    """
    algorithm, edges = config.algorithm, exchange_edges(config, world)
    if not edges:
        return Traffic((), (0,) * world, (0,) * world, 0, 1)
    if isinstance(algorithm, DdpConfig):
        return _ddp(algorithm, edges, world, layout)
    collective = _collective(config)
    around = collective == "ring"
    every = getattr(algorithm, "every", 1)
    if collective is None:
        return _gossip(config, world, values, raw, getattr(algorithm, "rounds", 1), every)
    sent, received, hops = _average(config, collective, world, values, raw)
    if not isinstance(algorithm, GossipPgaConfig) or algorithm.global_every == 1:
        return Traffic(edges, sent, received, hops, every, around)
    assert algorithm.global_every is not None
    between = _gossip(config, world, values, raw, algorithm.global_every - 1, algorithm.global_every)
    return replace(
        between,
        edges=edges,
        sent=tuple(a + b for a, b in zip(sent, between.sent, strict=True)),
        received=tuple(a + b for a, b in zip(received, between.received, strict=True)),
        hops=between.hops + (1 if around else hops),
        changing=True,
    )


def _ddp(config: DdpConfig, edges: tuple[Edge, ...], world: int, layout: Sequence[TensorSpec]) -> Traffic:
    """The hook's all-reduces, one after the other; that of running statistics goes beside them."""
    if not layout:
        raise ValueError("the traffic of ddp depends on the shapes of the task's tensors: give its layout")
    vectors = [vector for vector in vectors_of(config, layout, config.start) if vector.values]
    beside = any(spec.player == BUFFERS for spec in layout)
    sent = tuple(sum(ring_sent_bytes(*vector, rank, world) for vector in vectors) for rank in range(world))
    received = tuple(sent[(rank + 1) % world] for rank in range(world))
    return Traffic(edges, sent, received, 2 * (world - 1) * (len(vectors) - beside), 1, around=True)


def _gossip(config: NodeConfig, world: int, values: int, raw: int, rounds: int, every: int) -> Traffic:
    """So many rounds of gossip in one exchange."""
    topology, codec = Topology(config.topology, world), build_codec(config.codec)
    size = (codec.wire_bytes(values - raw) if values > raw else 0) + 4 * raw
    if config.algorithm.name == "sgp":
        size += PUSH_WEIGHT_BYTES
    sent = tuple(int(rounds * size * copies) for copies in topology.sent_per_round)
    received = tuple(int(rounds * size * copies) for copies in topology.received_per_round)
    return Traffic(exchange_edges(config, world), sent, received, rounds, every, changing=topology.period != 1)


def _average(
    config: NodeConfig, collective: Literal["server", "ring"], world: int, values: int, raw: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """(bytes sent, bytes received, hops) of one global average."""
    codec, segment_bytes, everyone = build_codec(config.codec), config.exchange.segment_bytes, range(world)
    if collective == "ring":
        shares = [
            sum(piece.wire_bytes(codec) for piece in share)
            for share in ring_pieces(codec, segment_bytes, world, values, raw)
        ]
        hops = range(2 * (world - 1))
        sent = tuple(sum(shares[(rank - hop) % world] for hop in hops) for rank in everyone)
        return sent, tuple(sent[rank - 1] for rank in everyone), len(hops)
    size = sum(piece.wire_bytes(codec) for piece in server_pieces(codec, segment_bytes, values, raw))
    load = tuple((world - 1) * size if rank == 0 else size for rank in everyone)
    return load, load, 2
