"""The partition of a data set over nodes, the same on every node for one seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
_MOST_DRAWS = 1000


def partition(
    labels: NDArray[np.integer],
    world: int,
    sharding: Literal["iid", "dirichlet", "class"],
    alpha: float | None,
    seed: int,
    classes_per_node: int | None = None,
    least: int | None = None,
) -> list[Indices]:
    """`world` sorted index arrays that together contain every sample exactly once.

    iid: shares whose sizes differ by at most one, after a shuffle. dirichlet: each label's samples are split in
    proportions drawn from Dirichlet(alpha, ..., alpha), as in Hsu et al. (arXiv 1909.06335) with labels and nodes
    exchanged: with a small alpha each node has few labels. class: each node has `classes_per_node` labels, assigned
    in turn in a shuffled order, so that the labels' numbers of nodes differ by at most one; a label's samples are
    split evenly among its nodes.

    `least`, for dirichlet: all shares are drawn again, from the same random stream, until each has at least that
    number of samples, as in the code of NIID-Bench (Li et al., arXiv 2102.02079).

    Raises ValueError if a share would be empty, or smaller than `least`, or a label would have no node.
    """
    if world < 1:
        raise ValueError(f"world must be at least 1, got {world}")
    random = np.random.default_rng([seed, world])
    if sharding == "iid":
        shares = np.array_split(random.permutation(len(labels)), world)
    elif sharding == "class":
        shares = _by_class(labels, world, classes_per_node, random)
    elif alpha is None:
        raise ValueError("sharding: dirichlet needs alpha")
    else:
        shares = _dirichlet(labels, world, alpha, random)
        if least is not None:
            shares = _at_least(least, shares, lambda: _dirichlet(labels, world, alpha, random))
    empty = [rank for rank, share in enumerate(shares) if not len(share)]
    if empty:
        raise ValueError(
            f"{sharding} sharding of {len(labels)} samples leaves {len(empty)} of {world} nodes without data "
            f"(the first is node {empty[0]}): use fewer nodes, "
            f"{'another seed' if sharding != 'dirichlet' else 'a larger alpha, another seed, or min_per_node'}"
        )
    return [np.sort(share) for share in shares]


def _at_least(least: int, shares: list[Indices], draw: Callable[[], list[Indices]]) -> list[Indices]:
    """The first of these shares and those drawn that has `least` samples everywhere."""
    total, world = sum(map(len, shares)), len(shares)
    if total < least * world:
        raise ValueError(
            f"min_per_node: {world} nodes with {least:,} samples each need {least * world:,}, and there are {total:,}"
        )
    best = 0
    for _ in range(_MOST_DRAWS):
        smallest = min(map(len, shares))
        if smallest >= least:
            return shares
        best, shares = max(best, smallest), draw()
    raise ValueError(
        f"min_per_node: in {_MOST_DRAWS:,} draws the smallest share had at most {best:,} samples, not {least:,}: "
        "use a larger alpha, fewer nodes, or a smaller min_per_node"
    )


def _dirichlet(labels: NDArray[np.integer], world: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    shares: list[list[Indices]] = [[] for _ in range(world)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(random.dirichlet(np.full(world, alpha)))[:-1] * len(members)
        for share, part in zip(shares, np.split(members, np.rint(cuts).astype(np.int64)), strict=True):
            share.append(part)
    return [np.concatenate(share) for share in shares]


def _by_class(
    labels: NDArray[np.integer], world: int, classes_per_node: int | None, random: np.random.Generator
) -> list[Indices]:
    known = random.permutation(np.unique(labels))
    if classes_per_node is None or not 1 <= classes_per_node <= len(known):
        raise ValueError(
            f"classes_per_node: 1 to {len(known)}, as many labels as the data has (got {classes_per_node})"
        )
    if world * classes_per_node < len(known):
        raise ValueError(
            f"classes_per_node: {classes_per_node} on each of {world} nodes is too few for {len(known)} labels: "
            f"some would have no node; use at least {-(-len(known) // world)}, or more nodes"
        )
    # Node r has the places r·k … r·k + k − 1 of the repeated sequence of labels; label j is at places j, j + C, …
    owners: list[list[int]] = [[] for _ in known]
    for place in range(world * classes_per_node):
        owners[place % len(known)].append(place // classes_per_node)
    shares: list[list[Indices]] = [[] for _ in range(world)]
    for label, nodes in zip(known, owners, strict=True):
        members = random.permutation(np.flatnonzero(labels == label))
        for node, part in zip(nodes, np.array_split(members, len(nodes)), strict=True):
            shares[node].append(part)
    return [np.concatenate(share) for share in shares]
