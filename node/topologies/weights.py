"""What all families are made of: rows of mixing weights, Metropolis-Hastings weights, periodic schedules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, gcd
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Edge(NamedTuple):
    """A directed edge between ranks: `src` sends to `dst`."""

    src: int
    dst: int


Adjacency = Sequence[Iterable[int]]  # of an undirected graph: each node's neighbours
Row = Mapping[int, float]  # the weight a node gives to each node, itself included; zeros are left out


@dataclass(frozen=True)
class Neighbourhood:
    """One node's row of the mixing matrix in one round.

    x_i ← own · x_i + Σ_j incoming[j] · x_j; x_i is sent to every rank in `outgoing`. Ranks ascend, so
    that sums are taken in one order everywhere.
    """

    own: float
    incoming: dict[int, float]
    outgoing: tuple[int, ...]


Round = tuple[Neighbourhood, ...]  # by rank


class Schedule(Protocol):
    """Who mixes with whom in each round, the same on every node.

    `period`: rounds after which it begins again, 1 for a static graph, None where it never does.
    """

    @property
    def period(self) -> int | None: ...

    def at(self, number: int) -> Round:
        """The round `number`, counted from 1."""
        ...

    def edges(self) -> frozenset[Edge]:
        """All directed edges (sender, receiver) that ever carry a message."""
        ...


@runtime_checkable
class RandomSchedule(Schedule, Protocol):
    """A schedule whose rounds are drawn at random."""

    def second_eigenvalue(self) -> float:
        """λ2(E[WᵀW])."""
        ...


class Periodic:
    """Rounds that come again and again in one order; a static graph is one round."""

    def __init__(self, rounds: Sequence[Sequence[Row]]) -> None:
        self._rounds = tuple(round_of(rows) for rows in rounds)

    @property
    def period(self) -> int:
        return len(self._rounds)

    def at(self, number: int) -> Round:
        return self._rounds[(number - 1) % len(self._rounds)]

    def edges(self) -> frozenset[Edge]:
        return frozenset(Edge(j, i) for nodes in self._rounds for i, node in enumerate(nodes) for j in node.incoming)


def round_of(rows: Sequence[Row]) -> Round:
    """A round from the rows of W."""
    outgoing: list[list[int]] = [[] for _ in rows]
    for i, row in enumerate(rows):
        for j in row:
            if j != i:
                outgoing[j].append(i)  # i ascends
    return tuple(
        Neighbourhood(
            own=row.get(i, 0.0),
            incoming={j: row[j] for j in sorted(row) if j != i},
            outgoing=tuple(outgoing[i]),
        )
        for i, row in enumerate(rows)
    )


def metropolis_hastings(graph: Adjacency) -> list[Row]:
    """w_ij = 1 / (1 + max(deg_i, deg_j)) on the edges, the rest on oneself: symmetric and doubly stochastic.

    It asks of a node only its own degree and its neighbours' (Xiao and Boyd 2004); 1/3 on a ring, 1/M on
    the complete graph.
    """
    neighbours = [sorted({*peers} - {i}) for i, peers in enumerate(graph)]
    rows: list[Row] = []
    for i, peers in enumerate(neighbours):
        row = {j: 1.0 / (1 + max(len(peers), len(neighbours[j]))) for j in peers}
        row[i] = max(0.0, 1.0 - fsum(row.values()))
        rows.append(row)
    return rows


def reached(graph: Adjacency, start: int = 0) -> set[int]:
    """The nodes that can be reached from `start` along `graph`."""
    seen, border = {start}, {start}
    while border:
        border = {j for i in border for j in graph[i]} - seen
        seen |= border
    return seen


def takes_turns(rows: Sequence[Collection[int]]) -> bool:
    """Whether all cycles of a connected graph have a common divisor above one (a periodic Markov chain)."""
    depth, border = {0: 0}, [0]
    while border:
        ahead = []
        for i in border:
            for j in rows[i]:
                if j not in depth:
                    depth[j] = depth[i] + 1
                    ahead.append(j)
        border = ahead
    period = 0
    for i, row in enumerate(rows):
        for j in row:
            period = gcd(period, depth[i] + 1 - depth[j])
    return period != 1


Matrix: TypeAlias = "npt.NDArray[np.float64]"
