"""AD-PSGD: settings, capabilities and traffic."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

from pydantic import NonNegativeInt

from gannet.node.methods.base import Method
from gannet.node.methods.formulas import FlatVector, Group, Traffic
from gannet.node.topologies.sides import asking_side
from gannet.node.topologies.weights import Edge


class AdPsgdConfig(Method):
    """AD-PSGD: asynchronous pairwise averaging along the edges of an undirected topology, whose weights do not count.

    `staleness`: a node waits once a question of its has been unanswered for more than this many steps; null: never.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.ad_psgd:ad_psgd"
    not_in_islands: ClassVar[str] = "averages with a partner that has to answer"
    asynchronous: ClassVar[bool] = True
    keeps_mean: ClassVar[bool] = False  # not while answers are in flight
    static_graph: ClassVar[str] = "divides the nodes into two sides,"
    symmetric_graph: ClassVar[bool] = True
    not_per_player: ClassVar[str] = "has no common steps, which players of one task must have"
    not_resumable: ClassVar[str] = (
        "ad-psgd has messages under way at every moment, and no step that is the same on all nodes"
    )

    name: Literal["ad-psgd"]
    staleness: NonNegativeInt | None = None

    def edges(self, group: Group) -> tuple[Edge, ...]:
        """The edges between the two sides."""
        edges = super().edges(group)
        asking = asking_side(group.world, edges)
        return tuple(Edge(a, b) for a, b in edges if (a in asking) != (b in asking))

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """Bytes sent per step, on average and at most: a question, or a share of the answers. No node waits."""
        edges, size = self.edges(group), group.codec.wire_bytes(vector.values)
        asking = asking_side(group.world, edges)
        degree = Counter(a for a, _ in edges)
        copies = [1.0 if rank in asking else 0.0 for rank in range(group.world)]
        for a, b in edges:
            if a in asking:
                copies[b] += 1 / degree[a]
        both = tuple(int(size * each) for each in copies)
        return Traffic(edges, both, both, 0, (0, 0), 1, changing=True)
