"""Network traffic of a run's exchange: edges, bytes, and the number of successive hops.

Known before anything is sent: the run's method, or each player's, computes it (see gannet.node.methods).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from gannet.node.codecs import build_codec
from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.layout import TensorSpec
from gannet.node.methods.formulas import FlatVector, Group, Traffic, nothing, size_of
from gannet.node.players.config import parts_of
from gannet.node.players.parts import layout_of, players_in
from gannet.node.topologies.weights import Edge


def exchange_edges(config: NodeConfig, world: int) -> tuple[Edge, ...]:
    """Directed edges that the configured algorithm's messages cross, or may cross after a loss, or of all players."""
    if config.players:
        parts = parts_of(config).values()
        return tuple(sorted({edge for part in parts for edge in exchange_edges(part, world)}))
    if config.on_loss == "reform":  # who is whose neighbour after a loss is not known beforehand
        return tuple(sorted(Edge(*pair) for pair in permutations(range(world), 2)))
    return config.algorithm.traits.edges(Group(config, world))


def rounds_ahead(config: NodeConfig, world: int) -> int:
    """How many rounds a sender can be ahead of a receiver, at most (see Method.rounds_ahead).

    Where players have rounds of their own, the most of any.
    """
    if config.players:
        return max(rounds_ahead(part, world) for part in parts_of(config).values())
    return config.algorithm.traits.rounds_ahead(Group(config, world))


def in_turns(config: NodeConfig, world: int, values: int, layout: Sequence[TensorSpec]) -> bool:
    """Whether messages take turns (see gannet.node.exchange.turn_rule): where gossip's graph changes, and a message
    fills its link.
    """
    pipe_bytes = config.exchange.pipe_bytes
    if pipe_bytes is None or config.players or not config.algorithm.traits.takes_turns:
        return False
    changes = Group(config, world).topology.period != 1
    return changes and largest_payload(config, values, layout) > pipe_bytes


def layouts(config: NodeConfig, layout: Sequence[TensorSpec]) -> list[tuple[NodeConfig, tuple[TensorSpec, ...]]]:
    """For each player: its settings, as those of a separate run, and its part's layout."""
    parts = parts_of(config, players_in(layout))
    return [(part, layout_of(layout, player)) for player, part in parts.items()]


def message_bytes(config: NodeConfig, layout: Sequence[TensorSpec]) -> int:
    """Payload bytes that one node sends another in one exchange of a vector of that layout.

    Where players are exchanged separately, the sum over all that are ever exchanged.
    """
    if config.players:
        exchanged = [part for part in layouts(config, layout) if part[0].algorithm.traits.exchanges]
        return sum(message_bytes(*part) for part in exchanged or layouts(config, layout))
    vector = FlatVector(size_of(layout), Split(layout, config.codec).raw, tuple(layout))
    return config.algorithm.traits.message_bytes(Group(config, 1), vector)


def largest_payload(config: NodeConfig, values: int, layout: Sequence[TensorSpec]) -> int:
    """Length of a run's longest payload, bytes. The message that opens the channels is the whole vector, `values`."""
    if config.players:
        parts = layouts(config, layout)
        opening = build_codec(parts[0][0].codec).wire_bytes(values)
        return max(opening, *(largest_payload(part, size_of(of_part), of_part) for part, of_part in parts))
    vector = FlatVector(values, Split(layout, config.codec).raw, tuple(layout))
    return config.algorithm.traits.largest_payload(Group(config, 1), vector)


def exchange_traffic(
    config: NodeConfig, world: int, values: int, raw: int = 0, layout: Sequence[TensorSpec] = ()
) -> Traffic:
    """Traffic of an exchange of a flat vector of `values` float32 values, `raw` of which are sent as they are.

    `layout` is for what sends matrices by their factors (power-gossip, ddp) or a player alone (md-gan).
    """
    if config.players:
        raise ValueError(
            "players that are exchanged each in its own way have a traffic each: see gannet.node.traffic.players"
        )
    method, group = config.algorithm.traits, Group(config, world)
    if not method.edges(group):
        return nothing(world)
    return method.traffic(group, FlatVector(values, raw, tuple(layout)))
