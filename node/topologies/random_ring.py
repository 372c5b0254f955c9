"""A ring over a fresh permutation in every round: the graph of Rand-DP-OAdam.

The paper names the method (Liu et al., arXiv 1910.12999, experiments) but not how the ring is drawn: the
uniform permutation from a shared seed is reconstructed.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from random import Random
from typing import Literal

from pydantic import NonNegativeInt

from gannet.node.topologies.graphs import ring
from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.weights import Edge, Round, Schedule, metropolis_hastings, round_of


class RandomRingTopology(TopologySetting):
    """A ring over a fresh permutation of the nodes in every round, drawn from `seed`."""

    name: Literal["random-ring"] = "random-ring"
    seed: NonNegativeInt = 1

    def schedule(self, world: int) -> Schedule:
        return RandomRing(world, self.seed)


class RandomRing:
    """A Schedule without a period. Every pair of nodes meets at some time."""

    period = None

    def __init__(self, world: int, seed: int) -> None:
        self.world, self.seed = world, seed
        self.at = lru_cache(maxsize=64)(self._at)  # nodes of one process are at most a few rounds apart

    def order(self, number: int) -> list[int]:
        """The nodes around the ring of that round."""
        draw = Random(f"random-ring {self.seed} {number}")  # the same on every machine and version of Python
        keys = [draw.random() for _ in range(self.world)]
        return sorted(range(self.world), key=keys.__getitem__)

    def _at(self, number: int) -> Round:
        order = self.order(number)
        graph: list[set[int]] = [set() for _ in order]
        for place, peers in enumerate(ring(self.world)):
            graph[order[place]] = {order[peer] for peer in peers}
        return round_of(metropolis_hastings(graph))

    def edges(self) -> frozenset[Edge]:
        return frozenset(Edge(*pair) for pair in permutations(range(self.world), 2))

    def second_eigenvalue(self) -> float:
        """λ2(E[WᵀW]) = 1/3 − 2/(3(M − 1)), so E‖x_{k+1} − x̄‖² ≤ λ2 ‖x_k − x̄‖².

        W = (I + P + Pᵀ)/3 for a uniformly drawn cycle P, so WᵀW = (3I + 2P + 2Pᵀ + P² + P⁻²)/9, and each power
        of P here moves every node to any other with chance 1/(M − 1): its mean is −1/(M − 1) on vectors of mean 0.
        """
        return 1 / 3 - 2 / (3 * (self.world - 1)) if self.world > 2 else 0.0
