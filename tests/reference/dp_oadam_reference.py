"""DP-OAdam (Liu et al. 2020, arXiv 1910.12999) in NumPy, over matrices of all nodes; with a mixing of random rings it
is Rand-DP-OAdam. Reconstructed: that moments stay on their node, and the order with overlap, which is D-PSGD's.

X ← W^t (X − D);  with overlap X ← W^t X − D(X), D the local steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dp_oadam(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    mixing: Callable[[int], Array],
    steps: int,
    rounds: int = 1,
    every: int = 1,
    overlap: bool = False,
) -> Array:
    """States (steps, nodes, size). `mixing(r)`: W of gossip round r, counted from 1 over the whole run."""
    done, states = 0, []
    for k in range(1, steps + 1):
        change = local_step(field(x))
        if k % every:
            x = x - change
        else:
            x = x if overlap else x - change
            for _ in range(rounds):
                done += 1
                x = mixing(done) @ x
            x = x - change if overlap else x
        states.append(x)
    return np.stack(states)
