"""Traffic of players that are exchanged separately: each player's, and that of all together.

A run that does not exchange its players separately counts here as one player without a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.layout import TensorSpec
from gannet.node.methods.formulas import Traffic, size_of
from gannet.node.players.config import REST, parts_of
from gannet.node.players.parts import layout_of, players_in
from gannet.node.traffic.exchange import exchange_traffic


def traffic_by_player(config: NodeConfig, world: int, layout: Sequence[TensorSpec]) -> dict[str, Traffic]:
    """Each player's exchanges, as of a run that trains it alone."""
    parts = parts_of(config, players_in(layout)) or {REST: config}
    found = {}
    for player, part in parts.items():
        of_part = layout_of(layout, player) if config.players else layout
        raw = Split(of_part, part.codec).raw
        found[player] = exchange_traffic(part, world, size_of(of_part), raw, of_part)
    return found


def bytes_per_step(traffic: Traffic) -> float:
    """Body bytes a step, of all nodes, over the steps from one exchange to the next."""
    return sum(traffic.sent) / traffic.every


def together(traffics: Sequence[Traffic], steps: int) -> Traffic:
    """All traffics as one: an exchange of the most frequent, plus the share of the others' bytes per such exchange.

    `steps`: the steps of the run; each traffic has an exchange at every `every`-th. Traffics of one shape (edges,
    hops) add up to the traffic of one vector. With several shapes only the bytes are known: no hops, nothing in turn.
    """
    if len(traffics) == 1:
        return traffics[0]
    first = min(traffics, key=lambda traffic: traffic.every)
    most = max(1, steps // first.every)
    shares = [(steps // traffic.every) / most for traffic in traffics]

    def mean(counts: Sequence[int]) -> int:
        return int(sum(share * count for share, count in zip(shares, counts, strict=True)))

    whole = replace(
        first,
        edges=tuple(sorted({edge for traffic in traffics for edge in traffic.edges})),
        sent=tuple(map(mean, zip(*(traffic.sent for traffic in traffics), strict=True))),
        received=tuple(map(mean, zip(*(traffic.received for traffic in traffics), strict=True))),
        in_turn=(
            mean([traffic.in_turn[0] for traffic in traffics]),
            mean([traffic.in_turn[1] for traffic in traffics]),
        ),
    )
    if len({shape_of(traffic) for traffic in traffics}) == 1:
        return whole
    return replace(whole, hops=0, in_turn=(0, 0), around=False, changing=True)


def shape_of(traffic: Traffic) -> tuple[object, ...]:
    """The properties that traffics must share to add up to one traffic."""
    return traffic.edges, traffic.hops, traffic.around, traffic.changing


def _exchanged(config: NodeConfig) -> list[NodeConfig]:
    """The settings of all players that are exchanged at all."""
    parts = list(parts_of(config).values()) or [config]
    return [part for part in parts if part.algorithm.traits.exchanges]


def steps_between(config: NodeConfig) -> int:
    """Steps from one exchange to the next; of several players, those of the one that is exchanged least."""
    return max((part.algorithm.traits.exchange_every for part in _exchanged(config)), default=1)
