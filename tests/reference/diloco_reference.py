"""DiLoCo (Douillard et al. 2023, arXiv 2311.08105, algorithm 1) and FedGAN (Rasouli et al. 2020) in NumPy.

H inner steps; Δ = θ − mean_i θ_i; Nesterov as torch's SGD has it: m ← μ m + Δ, θ ← θ − lr (Δ + μ m).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def diloco(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    every: int,
    rate: float,
    momentum: float,
    steps: int,
) -> Array:
    """States (steps, nodes, size), between exchanges each node's own."""
    theta, m, states = x[0], np.zeros_like(x[0]), []
    for k in range(1, steps + 1):
        x = x - local_step(field(x))
        if k % every == 0:
            delta = theta - x.mean(axis=0)
            m = momentum * m + delta
            theta = theta - rate * (delta + momentum * m)
            x = np.tile(theta, (len(x), 1))
        states.append(x)
    return np.stack(states)


def fedgan(
    x: Array, field: Callable[[Array], Array], local_step: Callable[[Array], Array], every: int, steps: int
) -> Array:
    """arXiv 2006.07228, algorithm 1 with p_i = 1/M: both players' parameters averaged every K steps."""
    states = []
    for k in range(1, steps + 1):
        x = x - local_step(field(x))
        if k % every == 0:
            x = np.tile(x.mean(axis=0), (len(x), 1))
        states.append(x)
    return np.stack(states)
