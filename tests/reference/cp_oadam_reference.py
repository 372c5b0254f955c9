"""CP-OAdam (Liu et al. 2020, arXiv 1910.12999) in NumPy: parameters averaged after the step, or gradients before it.

x_i ← mean_j (x_j − D_j) at every `every`-th step, x_i − D_i between;  or x ← x − D(mean_j g_j), D the local step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def average_parameters(
    x: Array, field: Callable[[Array], Array], local_step: Callable[[Array], Array], steps: int, every: int = 1
) -> Array:
    """States (steps, nodes, size), between averages each node's own."""
    states = []
    for k in range(1, steps + 1):
        x = x - local_step(field(x))
        if k % every == 0:
            x = np.tile(x.mean(axis=0), (len(x), 1))
        states.append(x)
    return np.stack(states)


def average_gradients(
    x: Array, field: Callable[[Array], Array], local_step: Callable[[Array], Array], steps: int
) -> Array:
    """States (steps, nodes, size), all nodes alike."""
    states = []
    for _ in range(steps):
        mean = field(x).mean(axis=0)
        x = x - local_step(np.tile(mean, (len(x), 1)))
        states.append(x)
    return np.stack(states)
