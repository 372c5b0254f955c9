"""DPOSG (Liu et al. 2020, arXiv 1910.12999) in NumPy, over matrices of all nodes, and CPOSG, its centralized form.

Z_k = W^t X_{k−1} − η ĝ(ξ_{k−1}, Z_{k−1});  X_k = W^t X_{k−1} − η ĝ(ξ_k, Z_k);  rows are nodes, Z_0 = X_0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dposg(
    x: Array, field: Callable[[Array], Array], rate: float, mixing: Callable[[int], Array], rounds: int, steps: int
) -> Array:
    """States X (steps, nodes, size). `mixing(r)`: W of gossip round r, counted from 1 over the whole run."""
    g, states = field(x), []
    for k in range(steps):
        mixed = x
        for r in range(rounds):
            mixed = mixing(k * rounds + r + 1) @ mixed
        g = field(mixed - rate * g)
        x = mixed - rate * g
        states.append(x)
    return np.stack(states)


def cposg(x: Array, field: Callable[[Array], Array], rate: float, steps: int) -> Array:
    """The same states where a server holds one x̄: each worker steps from it, and x̄ becomes the mean of all.

    Reconstructed from the paper's words: all take the optimistic step, parameters are averaged each iteration.
    """
    workers, server = range(len(x)), x[0]
    before, states = list(field(x)), []
    for _ in range(steps):
        look_ahead = [server - rate * before[i] for i in workers]
        before = list(field(np.stack(look_ahead)))
        stepped = [server - rate * before[i] for i in workers]
        server = sum(stepped) / len(stepped)
        states.append(np.stack(stepped))
    return np.stack(states)
