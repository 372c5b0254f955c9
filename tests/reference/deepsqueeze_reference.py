"""DeepSqueeze (Tang et al. 2019, arXiv 1907.07346, algorithm 1) in NumPy, over all nodes.

V = X − D + Δ;  Δ ← V − C(V);  X ← X − D + η (W − I) C(V).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def deepsqueeze(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    mixing: Callable[[int], Array],
    compress: Callable[[Array], Array],
    eta: float,
    steps: int,
) -> Array:
    """States (steps, nodes, size). `mixing(k)`: W of step k, from 1."""
    delta, states = np.zeros_like(x), []
    for k in range(1, steps + 1):
        x = x - local_step(field(x))
        v = x + delta
        sent = compress(v)
        delta = v - sent
        x = x + eta * (mixing(k) - np.eye(len(x))) @ sent
        states.append(x)
    return np.stack(states)
