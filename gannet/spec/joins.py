"""What a spec may say of nodes that join a run under way: `join_at_s`, seconds of training by rank."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from gannet.node.players.config import parts_of

if TYPE_CHECKING:
    from gannet.node.config import NodeConfig


def check_joins(join_at_s: Mapping[int, float], nodes: int, stop_s: float | None) -> None:
    """Raise ValueError for ranks that cannot join, and times at which none can."""
    for rank, at_s in sorted(join_at_s.items()):
        if not 0 <= rank < nodes:
            raise ValueError(
                f"join_at_s.{rank}: there is no such node; nodes, which counts those that join, has 0 to {nodes - 1}"
            )
        if rank == 0:
            raise ValueError("join_at_s.0: node 0 is there from the beginning: let another one join")
        if at_s >= (stop_s or at_s + 1):
            raise ValueError(f"join_at_s.{rank}: at {at_s:g} s the run is over (stop.seconds: {stop_s:g})")


def check_connected(config: NodeConfig, nodes: int, later: Collection[int]) -> None:
    """Raise ValueError where a method cannot begin without `later`, or the others are in parts that do
    not reach each other.
    """
    from gannet.node.traffic.exchange import exchange_edges

    for part in parts_of(config).values() or [config]:
        if "continue" not in part.algorithm.traits.on_loss:
            raise ValueError(
                f"join_at_s: algorithm {part.algorithm.name} averages over all nodes and needs them from the start: "
                "leave it out, use collective: server if the algorithm has it, or one that gossips (dp-oadam, dposg)"
            )

    edges = exchange_edges(config, nodes)
    present = set(range(nodes)) - set(later)
    reached, found = {0}, {0}
    while found:
        found = {b for edge in edges for a, b in (edge, edge[::-1]) if a in found and b in present} - reached
        reached |= found
    if edges and (apart := sorted(present - reached)):
        raise ValueError(
            f"join_at_s: before the others join, node 0 does not reach node {', '.join(map(str, apart))} on this "
            "topology, so they would train apart: let other nodes join, or choose another topology"
        )
