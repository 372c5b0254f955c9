"""How fast a topology averages, and what it costs: spectra, products of rounds, copies a round.

The disagreement of the nodes is their distance from their average; the consensus rate is the factor by which
a round shrinks it in the long run: 0 averages exactly after finitely many rounds, 1 never agrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import sqrt

import numpy as np

from gannet.node.topologies.topology import Topology
from gannet.node.topologies.weights import Matrix

EXACT = 1e-12  # disagreement that is rounding only
_SAMPLE_ROUNDS = 64  # of a topology without a period, where something is averaged over rounds


@dataclass(frozen=True)
class Figures:
    """A topology in numbers.

    `edges`: directed, in a round on average; `edges_ever`: all that are used at some time. `degree`: the most
    peers that a node sends to in a round. `exact_after`: rounds after which all nodes hold the average exactly,
    None where that never happens. `rho`: max(|λ2|, |λM|) of a round's W, the largest over the rounds.
    `copies`, `copies_busiest`: model copies sent in a round, on average over nodes and by the busiest one.
    """

    name: str
    world: int
    period: int | None
    symmetric: bool
    degree: int
    edges: float
    edges_ever: int
    exact_after: int | None
    rho: float
    consensus_rate: float
    copies: float
    copies_busiest: float

    @property
    def spectral_gap(self) -> float:
        """1 − consensus rate; of a static graph 1 − ρ."""
        return 1.0 - self.consensus_rate


def figures(topology: Topology) -> Figures:
    """Everything that can be said of a topology before it is used."""
    period = topology.period
    numbers = range(1, 1 + (_SAMPLE_ROUNDS if period is None else period))
    sent = topology.sent_per_round
    return Figures(
        name=str(topology.choice),
        world=topology.world,
        period=period,
        symmetric=topology.symmetric,
        degree=max(len(topology(rank, number).outgoing) for number in numbers for rank in range(topology.world)),
        edges=sum(sent),
        edges_ever=len(topology.edges()),
        exact_after=exact_after(topology),
        rho=max(second_eigenvalue(topology.mixing_matrix(number)) for number in (numbers if period else (1,))),
        consensus_rate=consensus_rate(topology),
        copies=sum(sent) / topology.world,
        copies_busiest=max(sent),
    )


def mixing_rate(weights: Matrix) -> float:
    """‖W − 11ᵀ/M‖₂: the factor by which one round shrinks disagreement, at worst; ρ where W is normal."""
    if len(weights) == 1:
        return 0.0
    return float(np.linalg.norm(weights - 1.0 / len(weights), ord=2))


def second_eigenvalue(weights: Matrix) -> float:
    """ρ = max(|λ2(W)|, |λM(W)|) (arXiv 1910.12999), moduli where W is not symmetric."""
    apart = weights - 1.0 / len(weights)
    symmetric = bool(np.allclose(apart, apart.T, rtol=0, atol=1e-12))
    eigenvalues = np.linalg.eigvalsh(apart) if symmetric else np.linalg.eigvals(apart)
    return float(np.abs(eigenvalues).max(initial=0.0))


def spectral_gap(weights: Matrix) -> float:
    """1 − ρ of one round: 1 averages exactly at once, 0 never agrees."""
    return 1.0 - second_eigenvalue(weights)


def consensus_rate(topology: Topology) -> float:
    """By how much a round shrinks disagreement, in the long run.

    Static: ρ. With a period of P rounds: ‖W_P ⋯ W_1 − 11ᵀ/M‖₂^(1/P). Random: √λ2(E[WᵀW]), the rate of the
    root mean square.
    """
    if topology.period is None:
        return sqrt(topology.second_eigenvalue())
    if topology.period == 1:
        rate = second_eigenvalue(topology.mixing_matrix())
    else:
        product = next(islice(products(topology), topology.period - 1, None))
        rate = mixing_rate(product)
    return 0.0 if rate < EXACT * topology.world else rate ** (1.0 / topology.period)


def exact_after(topology: Topology) -> int | None:
    """The first round after which every node holds the average, or None.

    Exactness comes at one blow, where a rate brings disagreement down bit by bit. A static W that has it has it
    within M rounds, since W − 11ᵀ/M is nilpotent then; looked for up to two periods and 64 rounds.
    """
    if topology.period is None and topology.second_eigenvalue() > 0:
        return None
    before = 1.0
    for number, product in enumerate(islice(products(topology), 2 * (topology.period or 1) + 64), start=1):
        apart = float(np.abs(product - 1.0 / topology.world).max())
        if apart < EXACT:
            return number if before > 1e-7 else None
        before = apart
    return None


def products(topology: Topology) -> Iterator[Matrix]:
    """W_1, W_2 W_1, W_3 W_2 W_1, …"""
    from scipy.sparse import csr_array

    product = np.eye(topology.world)
    number = 0
    while True:
        number += 1
        product = csr_array(topology.mixing_matrix(number)) @ product
        yield product
