"""Who mixes with whom: topologies as functions (rank, round) → weighted peers.

Every topology yields a doubly stochastic mixing matrix W in every round, so that gossip keeps the nodes'
average. The families of graphs are in `gannet.node.topologies`, how fast they average in
`gannet.node.topologies.rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from gannet.node.topologies.registry import topology_config
from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.waits import Waits, waits, waits_per_round
from gannet.node.topologies.weights import Edge, Matrix, Neighbourhood, RandomSchedule, Round, Schedule

__all__ = ["Matrix", "Neighbourhood", "Topology"]


@cache
def _schedule(choice: TopologySetting, world: int) -> Schedule:
    if world < 1:
        raise ValueError(f"a topology needs at least one node, got {world}")
    return choice.schedule(world)


@cache
def _rounds_ahead(choice: TopologySetting, world: int) -> int:
    """See Topology.rounds_ahead: every node asks, and for a thousand nodes it takes a while."""
    topology = Topology(choice, world)
    return 2 * max(map(topology._flood, range(topology.period or 1))) + topology._idle()


class Topology:
    """A topology over `world` nodes: `topology(rank, number)` is that node's Neighbourhood in gossip round `number`.

    Rounds are counted from 1 over the whole run, whatever the steps between them: so a graph that changes
    goes through all its rounds also where nodes gossip at every tenth step, or several times in one.
    `choice`: a name, or what a spec's `topology:` holds. Raises ValueError for what cannot be built over `world`.
    """

    def __init__(self, choice: TopologySetting | str | dict[str, Any], world: int) -> None:
        self.choice = topology_config(choice)
        self.name = self.choice.name
        self.world = world
        self._schedule = _schedule(self.choice, world)

    def __call__(self, rank: int, number: int) -> Neighbourhood:
        return self._schedule.at(number)[rank]

    @property
    def period(self) -> int | None:
        """Rounds after which it begins again: 1 of a static graph, None where every round is drawn anew."""
        return self._schedule.period

    def mixing_matrix(self, number: int = 1) -> Matrix:
        """W of a round, shape (world, world): row i holds the weights that node i gives to each node."""
        weights = np.zeros((self.world, self.world))
        for i, node in enumerate(self._schedule.at(number)):
            weights[i, i] = node.own
            weights[i, list(node.incoming)] = list(node.incoming.values())
        return weights

    def edges(self) -> list[Edge]:
        """All directed edges (sender, receiver) that carry messages in any round."""
        return sorted(self._schedule.edges())

    def second_eigenvalue(self) -> float:
        """λ2(E[WᵀW]) of a topology that is drawn anew in every round."""
        if not isinstance(self._schedule, RandomSchedule):
            raise ValueError(f"{self.choice} is not random: see gannet.node.topologies.rates")
        return self._schedule.second_eigenvalue()

    @cached_property
    def symmetric(self) -> bool:
        """Whether W = Wᵀ in every round, as the theorems of DPOSG and CHOCO ask."""
        if self.period is None:
            return True  # random rings are undirected
        return all(
            abs(weight - nodes[j].incoming.get(i, 0.0)) < 1e-12
            for nodes in self._some_rounds()
            for i, node in enumerate(nodes)
            for j, weight in node.incoming.items()
        )

    @cached_property
    def sent_per_round(self) -> tuple[float, ...]:
        """Model copies that each rank sends in a round, on average over the period."""
        return self._mean([[len(node.outgoing) for node in nodes] for nodes in self._some_rounds()])

    @cached_property
    def received_per_round(self) -> tuple[float, ...]:
        """Model copies that each rank receives in a round, on average over the period."""
        return self._mean([[len(node.incoming) for node in nodes] for nodes in self._some_rounds()])

    @cached_property
    def fewest_incoming(self) -> int:
        """The fewest peers that any node hears from in a round."""
        return min(len(node.incoming) for nodes in self._some_rounds() for node in nodes)

    @cached_property
    def waits_per_round(self) -> Waits:
        """What nodes are sure to wait for in a round, one after another, in the long run."""
        return waits_per_round(self._some_rounds())

    def waits(self, count: int) -> Waits:
        """What nodes are sure to wait for in so many rounds, whichever these are."""
        return waits(self._some_rounds(), count)

    def rounds_ahead(self) -> int:
        """How many rounds a sender can be ahead of the last round that a receiver has waited in, at most.

        A node begins a round when it has the messages of the one before. So one that stands still holds up its
        receivers a round later, theirs after another, and all after as many rounds as news need to reach
        everybody from it; it may have been without peers for some rounds before. Twice the way: where a node is
        lost, news must go around it.
        """
        return _rounds_ahead(self.choice, self.world)

    def _flood(self, begin: int) -> int:
        """Rounds from `begin` until everyone depends on everyone; sets of nodes are the bits of integers."""
        if self.period is None:
            return self.world // 2  # whatever the ring, news spread to both sides in each round
        held_up_by, everyone = [1 << rank for rank in range(self.world)], (1 << self.world) - 1
        count = 0
        while any(nodes != everyone for nodes in held_up_by):
            count += 1
            before = list(held_up_by)
            for i, node in enumerate(self._schedule.at(begin + count)):
                for j in node.incoming:
                    held_up_by[i] |= before[j]
        return count

    def _idle(self) -> int:
        """The most rounds in a row that a node has no one to wait for."""
        longest, lasting = 0, [0] * self.world
        for nodes in 2 * self._some_rounds() if self.world > 1 else []:
            lasting = [0 if node.incoming else count + 1 for node, count in zip(nodes, lasting, strict=True)]
            longest = max(longest, *lasting)
        return longest

    def _some_rounds(self) -> list[Round]:
        """One period; of random rings one round, since all have the same degrees."""
        return [self._schedule.at(number) for number in range(1, 1 + (self.period or 1))]

    def _mean(self, counts: Sequence[Sequence[int]]) -> tuple[float, ...]:
        return tuple(sum(of_rank) / len(counts) for of_rank in zip(*counts, strict=True))
