"""Stochastic Gradient Push (Assran et al. 2019, arXiv 1811.10792, algorithm 1) in NumPy, over all nodes.

X ← P (X − D(Z)), w ← P w, Z = X / w, with P column-stochastic and uniform over each node's out-edges.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def uniform_columns(edges: Array) -> Array:
    """P from a matrix whose entry (i, j) is not 0 where j sends to i: each column shares its node's mass evenly."""
    pattern = (edges != 0) | np.eye(len(edges), dtype=bool)
    return pattern / pattern.sum(axis=0)


def sgp(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    pushing: Callable[[int], Array],
    steps: int,
) -> Array:
    """Debiased states Z, shape (steps, nodes, size). `pushing(k)`: P of step k, from 1."""
    w = np.ones((len(x), 1))
    z, states = x, []
    for k in range(1, steps + 1):
        p = pushing(k)
        x = p @ (x - local_step(field(z)))
        w = p @ w
        z = x / w
        states.append(z)
    return np.stack(states)
