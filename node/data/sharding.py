"""Who trains on which images: a partition of the data set, the same on every node for one seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def partition(
    labels: NDArray[np.integer],
    world: int,
    sharding: Literal["iid", "dirichlet"],
    alpha: float | None,
    seed: int,
) -> list[Indices]:
    """`world` sorted index arrays that together hold every sample exactly once.

    iid: shares whose sizes differ by at most one, dealt after a shuffle.
    dirichlet: each label's samples are split in proportions drawn from Dirichlet(alpha, ..., alpha), as in
    Hsu et al. (arXiv 1909.06335) with labels and nodes exchanged: small alpha gives each node few labels.
    Raises ValueError when a share would be empty.
    """
    if world < 1:
        raise ValueError(f"world must be at least 1, got {world}")
    random = np.random.default_rng([seed, world])
    if sharding == "iid":
        shares = np.array_split(random.permutation(len(labels)), world)
    elif alpha is None:
        raise ValueError("sharding: dirichlet needs alpha")
    else:
        shares = _dirichlet(labels, world, alpha, random)
    empty = [rank for rank, share in enumerate(shares) if not len(share)]
    if empty:
        raise ValueError(
            f"{sharding} sharding of {len(labels)} samples leaves {len(empty)} of {world} nodes without data "
            f"(the first is node {empty[0]}): use fewer nodes, a larger alpha or another seed"
        )
    return [np.sort(share) for share in shares]


def _dirichlet(labels: NDArray[np.integer], world: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    shares: list[list[Indices]] = [[] for _ in range(world)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(random.dirichlet(np.full(world, alpha)))[:-1] * len(members)
        for share, part in zip(shares, np.split(members, np.rint(cuts).astype(np.int64)), strict=True):
            share.append(part)
    return [np.concatenate(share) for share in shares]
