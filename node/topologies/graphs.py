"""Static undirected graphs; all take Metropolis-Hastings weights."""

from __future__ import annotations

from itertools import combinations
from math import isqrt, log
from random import Random
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from gannet.node.topologies.setting import UndirectedTopology
from gannet.node.topologies.weights import Adjacency, reached

_DRAWS = 1000  # attempts at a connected random graph


class RingTopology(UndirectedTopology):
    name: Literal["ring"] = "ring"

    def graph(self, world: int) -> Adjacency:
        return ring(world)


class TorusTopology(UndirectedTopology):
    name: Literal["torus"] = "torus"

    def graph(self, world: int) -> Adjacency:
        return torus(world)


class CompleteTopology(UndirectedTopology):
    name: Literal["complete"] = "complete"

    def graph(self, world: int) -> Adjacency:
        return complete(world)


class StarTopology(UndirectedTopology):
    name: Literal["star"] = "star"

    def graph(self, world: int) -> Adjacency:
        return star(world)


class HypercubeTopology(UndirectedTopology):
    name: Literal["hypercube"] = "hypercube"

    def graph(self, world: int) -> Adjacency:
        return hypercube(world)


class ErdosRenyiTopology(UndirectedTopology):
    """Every pair of nodes is joined with probability `p`, drawn from `seed` until the graph is connected."""

    name: Literal["erdos-renyi"] = "erdos-renyi"
    p: Annotated[float, Field(gt=0, le=1)] = 0.3
    seed: NonNegativeInt = 1

    def graph(self, world: int) -> Adjacency:
        return erdos_renyi(world, self.p, self.seed)


def ring(world: int) -> Adjacency:
    """Each node knows the one before and the one after it."""
    return [{(i - 1) % world, (i + 1) % world} - {i} for i in range(world)]


def star(world: int) -> Adjacency:
    """All know rank 0, and only it."""
    return [set(range(1, world)), *({0} for _ in range(1, world))]


def complete(world: int) -> Adjacency:
    """All know all."""
    return [set(range(world)) - {i} for i in range(world)]


def torus(world: int) -> Adjacency:
    """Rows × columns as near to a square as `world` allows, both closed to rings; of a prime it is a ring."""
    rows = max(r for r in range(1, isqrt(world) + 1) if world % r == 0)
    columns = world // rows
    return [
        {
            *((i // columns + step) % rows * columns + i % columns for step in (-1, 1)),
            *(i // columns * columns + (i + step) % columns for step in (-1, 1)),
        }
        - {i}
        for i in range(world)
    ]


def hypercube(world: int) -> Adjacency:
    """Nodes whose numbers differ in one binary digit know each other. Raises ValueError but for world = 2^k."""
    if world & (world - 1):
        below = 1 << (world.bit_length() - 1)
        raise ValueError(
            f"a hypercube has 2^k nodes, such as {below} or {2 * below}, and here are {world}; "
            "base and exponential take any number"
        )
    return [{i ^ 1 << bit for bit in range(world.bit_length() - 1)} for i in range(world)]


def erdos_renyi(world: int, p: float, seed: int) -> Adjacency:
    """G(n, p), drawn anew from (seed, attempt) until it is connected. Raises ValueError when it never is."""
    for attempt in range(_DRAWS):
        draw = Random(f"erdos-renyi {seed} {attempt}")  # the same on every machine and version of Python
        graph: list[set[int]] = [set() for _ in range(world)]
        for i, j in combinations(range(world), 2):
            if draw.random() < p:
                graph[i].add(j)
                graph[j].add(i)
        if len(reached(graph)) == world:
            return graph
    raise ValueError(
        f"no connected Erdős-Rényi graph over {world} nodes in {_DRAWS} draws with p = {p:g}: "
        f"take a larger p, they are likely connected above ln M / M = {log(world) / world:.2f}"
    )
