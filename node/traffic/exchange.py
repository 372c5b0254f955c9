"""What an algorithm's exchange puts on the network: which edges, how many bytes, how many hops in a row.

Known before anything is sent, from the formulas of the methods; deadlines, probes and the report's
lower bound all come from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from math import prod
from typing import Literal

import networkx as nx

from gannet.node.codecs import build_codec
from gannet.node.codecs.low_rank import LowRank
from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.cp_oadam import CpOadamConfig
from gannet.node.methods.ddp import DdpConfig
from gannet.node.methods.diloco import DilocoConfig
from gannet.node.methods.fedgan import FedganConfig
from gannet.node.methods.gloo import ring_sent_bytes, vectors_of
from gannet.node.methods.gossip_pga import GossipPgaConfig
from gannet.node.methods.md_gan import MdGanConfig
from gannet.node.methods.power_gossip import PowerGossipConfig
from gannet.node.methods.registry import ASYNCHRONOUS, GOSSIPS, TAKING_TURNS
from gannet.node.methods.segments import ring_segments, server_segments
from gannet.node.players.config import parts_of
from gannet.node.players.parts import layout_of, players_in
from gannet.node.topologies.sides import asking_side
from gannet.node.topologies.topology import Topology

Edge = tuple[int, int]

PUSH_WEIGHT_BYTES = 4  # that SGP sends beside every copy


@dataclass(frozen=True)
class Traffic:
    """One exchange of an algorithm among `world` nodes.

    `edges`: directed edges (sender, receiver) that carry messages. `sent`, `received`: payload bytes by rank.
    `hops`: transfers that must follow one another, and `in_turn`: payload bytes sent, and received, one behind the
    other in these. That is less than the busiest node's where nobody waits until it has sent all its copies (gossip
    on a star). `every`: gradient steps from one exchange to the next.
    `around`: the hops go around a ring, segment by segment. `changing`: each exchange has its own edges; `edges` are
    then all that there are at some time, the bytes those of an exchange on average.
    """

    edges: tuple[Edge, ...]
    sent: tuple[int, ...]
    received: tuple[int, ...]
    hops: float
    in_turn: tuple[int, int]
    every: int
    around: bool = False
    changing: bool = False


def exchange_edges(config: NodeConfig, world: int) -> tuple[Edge, ...]:
    """Directed edges (sender, receiver) that the configured algorithm's messages cross, or those of all players."""
    if config.players:
        parts = parts_of(config).values()
        return tuple(sorted({edge for part in parts for edge in exchange_edges(part, world)}))
    if config.algorithm.name == "local" or world == 1:
        return ()
    if isinstance(config.algorithm, MdGanConfig):
        # Discriminators go from any worker to any other, by and by.
        swaps = permutations(range(1, world), 2) if config.algorithm.swap_every else ()
        return tuple(sorted({*_edges("server", world), *swaps}))
    if config.algorithm.name == "ddp":
        return tuple(sorted((rank, (rank - 1) % world) for rank in range(world)))  # see gannet.node.methods.gloo
    collective = _collective(config)
    edges = set(_edges(collective, world)) if collective else set()
    if config.algorithm.name in GOSSIPS:
        edges |= set(Topology(config.topology, world).edges())
    if config.algorithm.name in ASYNCHRONOUS:
        asking = asking_side(world, edges)
        edges = {(a, b) for a, b in edges if (a in asking) != (b in asking)}
    return tuple(sorted(edges))


def rounds_ahead(config: NodeConfig, world: int) -> int:
    """How many rounds a sender can be ahead of a receiver, at most.

    A node begins a round when it has the messages of the one before, so it is at most as many rounds ahead
    of another as it takes edges to be reached from it. No two nodes are farther apart than by way of rank 0;
    for gossip see Topology.rounds_ahead. Where an algorithm has rounds of both kinds, both together are enough.
    Of MD-GAN, a worker may swap after a step while another has not entered the swap before that step.
    Where players have rounds of their own, the most of any.
    """
    if config.players:
        return max(rounds_ahead(part, world) for part in parts_of(config).values())
    if isinstance(config.algorithm, MdGanConfig):
        return 3
    collective = _collective(config)
    ahead = _farthest(_edges(collective, world)) if collective else 0
    return ahead + (Topology(config.topology, world).rounds_ahead() if config.algorithm.name in GOSSIPS else 0)


def in_turns(config: NodeConfig, world: int, values: int, layout: Sequence[TensorSpec]) -> bool:
    """Whether messages take turns (see gannet.node.exchange.turn_rule): where gossip's graph changes, and a message
    fills its link.
    """
    pipe_bytes = config.exchange.pipe_bytes
    if pipe_bytes is None or config.players or config.algorithm.name not in TAKING_TURNS:
        return False
    return Topology(config.topology, world).period != 1 and largest_payload(config, values, layout) > pipe_bytes


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


def layouts(config: NodeConfig, layout: Sequence[TensorSpec]) -> list[tuple[NodeConfig, tuple[TensorSpec, ...]]]:
    """Of each player: its settings, as those of a run of its own, and its part's layout."""
    parts = parts_of(config, players_in(layout))
    return [(part, layout_of(layout, player)) for player, part in parts.items()]


def size_of(layout: Sequence[TensorSpec]) -> int:
    """How many values a vector of that layout has."""
    return sum(spec.place.stop - spec.start for spec in layout)


def message_bytes(config: NodeConfig, layout: Sequence[TensorSpec]) -> int:
    """What one node sends another in one exchange of a vector of that layout, payload bytes.

    Of MD-GAN, all that a worker may have to do with in a step: what it gets to judge, and a discriminator.
    Where players are exchanged each in its own way, of all that ever are.
    """
    if config.players:
        exchanged = [part for part in layouts(config, layout) if part[0].algorithm.name != "local"]
        return sum(message_bytes(*part) for part in exchanged or layouts(config, layout))
    if isinstance(config.algorithm, MdGanConfig):
        return 2 * _samples_bytes(config) + _discriminator_bytes(config, layout)
    return _copy_bytes(config, size_of(layout), Split(layout, config.codec).raw, layout)


def largest_payload(config: NodeConfig, values: int, layout: Sequence[TensorSpec]) -> int:
    """No payload of a run is longer, bytes. What opens the channels is the whole vector, of `values`."""
    if config.players:
        parts = layouts(config, layout)
        opening = build_codec(parts[0][0].codec).wire_bytes(values)
        return max(opening, *(largest_payload(part, size_of(of_part), of_part) for part, of_part in parts))
    limit = max(build_codec(config.codec).wire_bytes(values), 4 * Split(layout, config.codec).raw)
    if isinstance(config.algorithm, PowerGossipConfig):
        limit = max(limit, 4 * LowRank(layout, config.algorithm.rank).rest)
    if isinstance(config.algorithm, MdGanConfig):
        limit = max(limit, _samples_bytes(config))
    return limit


def _copy_bytes(config: NodeConfig, values: int, raw: int, layout: Sequence[TensorSpec]) -> int:
    codec, algorithm = build_codec(config.codec), config.algorithm
    if isinstance(algorithm, PowerGossipConfig):
        shapes = LowRank(layout, algorithm.rank)
        # Where products are odd in number, a step's last comes from the right one time and from the left the next.
        both = codec.wire_bytes(algorithm.iterations * (shapes.from_right + shapes.from_left))
        return both // 2 + 4 * shapes.rest
    size = (codec.wire_bytes(values - raw) if values > raw else 0) + 4 * raw
    return size + PUSH_WEIGHT_BYTES if algorithm.name == "sgp" else size


def exchange_traffic(
    config: NodeConfig, world: int, values: int, raw: int = 0, layout: Sequence[TensorSpec] = ()
) -> Traffic:
    """Traffic of an exchange of a flat vector of `values` float32 values, `raw` of which are sent as they are.

    `layout` is for what sends matrices by their factors (power-gossip) or a player alone (md-gan).

    Gossip sends t copies along each edge (of the round's graph, where it changes); a star's server takes and
    gives M−1 copies; ring all-reduce sends 2(M−1) hops of 1/M each. Gossip-PGA's exchange is that of all its H steps,
    H − 1 gossips and a global average, whose last hop is sure to be waited for; the others may overlap.
    MD-GAN's is a step: one or two minibatches of images to each worker and one of slopes back, whatever `values`, and
    a swap's share. DDP's is that of a step which compresses.
    """
    if config.players:
        raise ValueError(
            "players that are exchanged each in its own way have a traffic each: see gannet.node.traffic.players"
        )
    if config.algorithm.name == "ddp" and not layout:
        raise ValueError("the traffic of ddp depends on the shapes of the task's tensors: give its layout")
    layout = layout or (TensorSpec("x", (values,), 0, ""),)
    algorithm, edges = config.algorithm, exchange_edges(config, world)
    if not edges:
        return Traffic((), (0,) * world, (0,) * world, 0, (0, 0), 1)
    if isinstance(algorithm, MdGanConfig):
        return _apart(config, algorithm, world, layout)
    if isinstance(algorithm, DdpConfig):
        return _ddp(algorithm, edges, world, layout)
    collective = _collective(config)
    around = collective == "ring"
    every = getattr(algorithm, "every", 1)
    if algorithm.name in ASYNCHRONOUS:
        return _pairs(config, world, values, edges)
    if collective is None:
        return _gossip(config, world, values, raw, getattr(algorithm, "rounds", 1), every, layout)
    sent, received, hops = _average(config, collective, world, values, raw)
    if not isinstance(algorithm, GossipPgaConfig) or algorithm.global_every == 1:
        return Traffic(edges, sent, received, hops, (max(sent), max(received)), every, around)
    assert algorithm.global_every is not None
    # Whoever begins the average last: a server sends all its means after that, a node of a ring all its segments.
    rounds = algorithm.global_every - 1
    between = _gossip(config, world, values, raw, rounds, algorithm.global_every, layout, again=False)
    return replace(
        between,
        edges=edges,
        sent=tuple(a + b for a, b in zip(sent, between.sent, strict=True)),
        received=tuple(a + b for a, b in zip(received, between.received, strict=True)),
        hops=between.hops + 1,
        in_turn=(between.in_turn[0] + (min if around else max)(sent), between.in_turn[1] + min(received)),
        changing=True,
    )


def _pairs(config: NodeConfig, world: int, values: int, edges: tuple[Edge, ...]) -> Traffic:
    """What AD-PSGD sends a step, on average and at most: a question, or its share of the answers. Nobody waits."""
    size, asking = build_codec(config.codec).wire_bytes(values), asking_side(world, edges)
    degree = Counter(a for a, _ in edges)
    copies = [1.0 if rank in asking else 0.0 for rank in range(world)]
    for a, b in edges:
        if a in asking:
            copies[b] += 1 / degree[a]
    both = tuple(int(size * each) for each in copies)
    return Traffic(edges, both, both, 0, (0, 0), 1, changing=True)


def _apart(config: NodeConfig, algorithm: MdGanConfig, world: int, layout: Sequence[TensorSpec]) -> Traffic:
    """A step of MD-GAN: samples down, slopes up, and a share of a swap."""
    samples, down = _samples_bytes(config), min(2, algorithm.batch_count(world))
    swaps = algorithm.swap_every is not None and world > 2
    swapped = _discriminator_bytes(config, layout) / algorithm.swap_every if swaps and algorithm.swap_every else 0
    sent = tuple(int(samples + swapped) if rank else (world - 1) * down * samples for rank in range(world))
    received = tuple(int(down * samples + swapped) if rank else (world - 1) * samples for rank in range(world))
    edges = exchange_edges(config, world)
    return Traffic(edges, sent, received, 2, (max(sent), max(received)), 1, changing=swaps)


def _ddp(config: DdpConfig, edges: tuple[Edge, ...], world: int, layout: Sequence[TensorSpec]) -> Traffic:
    """The hook's all-reduces, one after the other; that of running statistics goes beside them."""
    vectors = [vector for vector in vectors_of(config, layout, config.start) if vector.values]
    beside = any(spec.player == BUFFERS for spec in layout)
    sent = tuple(sum(ring_sent_bytes(*vector, rank, world) for vector in vectors) for rank in range(world))
    received = tuple(sent[(rank + 1) % world] for rank in range(world))
    hops = 2 * (world - 1) * (len(vectors) - beside)
    return Traffic(edges, sent, received, hops, (max(sent), max(received)), 1, around=True)


def _samples_bytes(config: NodeConfig) -> int:
    """A minibatch of images, or of slopes, as a payload."""
    return build_codec(config.codec).wire_bytes(config.batch * prod(config.data.image_shape))


def _discriminator_bytes(config: NodeConfig, layout: Sequence[TensorSpec]) -> int:
    values = sum(spec.place.stop - spec.place.start for spec in layout if spec.player == "discriminator")
    return build_codec(config.codec).wire_bytes(values)


def _gossip(
    config: NodeConfig,
    world: int,
    values: int,
    raw: int,
    rounds: int,
    every: int,
    layout: Sequence[TensorSpec],
    again: bool = True,
) -> Traffic:
    """So many rounds of gossip in one exchange, with nothing else between it and the next if `again`."""
    topology, size = Topology(config.topology, world), _copy_bytes(config, values, raw, layout)
    sent = tuple(int(rounds * size * copies) for copies in topology.sent_per_round)
    received = tuple(int(rounds * size * copies) for copies in topology.received_per_round)
    times, waits = (rounds, topology.waits_per_round) if again else (1, topology.waits(rounds))
    in_turn = int(times * size * waits.sent), int(times * size * waits.received)
    hops = times * waits.hops
    if isinstance(config.algorithm, PowerGossipConfig) and LowRank(layout, config.algorithm.rank).matrices:
        hops *= config.algorithm.iterations  # one product waits for the other
    edges, changing = exchange_edges(config, world), topology.period != 1
    return Traffic(edges, sent, received, hops, in_turn, every, changing=changing)


def _average(
    config: NodeConfig, collective: Literal["server", "ring"], world: int, values: int, raw: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """(bytes sent, bytes received, hops) of one global average."""
    codec, segment_bytes, everyone = build_codec(config.codec), config.exchange.segment_bytes, range(world)
    if collective == "ring":
        shares = [
            sum(segment.wire_bytes(codec) for segment in share)
            for share in ring_segments(codec, segment_bytes, world, values, raw)
        ]
        hops = range(2 * (world - 1))
        sent = tuple(sum(shares[(rank - hop) % world] for hop in hops) for rank in everyone)
        return sent, tuple(sent[rank - 1] for rank in everyone), len(hops)
    size = sum(segment.wire_bytes(codec) for segment in server_segments(codec, segment_bytes, values, raw))
    load = tuple((world - 1) * size if rank == 0 else size for rank in everyone)
    return load, load, 2
