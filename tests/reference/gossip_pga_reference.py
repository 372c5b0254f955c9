"""Gossip-PGA (Chen et al. 2021, arXiv 2105.09080, algorithm 1) in NumPy, over matrices of all nodes.

X ← 11ᵀ/M (X − D) where k mod H = 0, else W_k (X − D), with D the local steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gossip_pga(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    mixing: Callable[[int], Array],
    period: float,
    steps: int,
) -> Array:
    """States (steps, nodes, size). `mixing(k)`: W of step k, from 1; `period`: H, may be infinite."""
    states = []
    mean = np.full((len(x), len(x)), 1 / len(x))
    for k in range(1, steps + 1):
        x = x - local_step(field(x))
        x = (mean if k % period == 0 else mixing(k)) @ x
        states.append(x)
    return np.stack(states)
