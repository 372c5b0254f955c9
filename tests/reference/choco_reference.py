"""CHOCO-SGD (Koloskova, Stich, Jaggi 2019, arXiv 1902.00340, algorithms 1 and 2) in NumPy, over all nodes.

X ← X − D;  X̂ ← X̂ + C(X − X̂);  X ← X + γ (W − I) X̂.  And the two compressors of its section 3.4 that draw nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def choco(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    mixing: Array,
    compress: Callable[[Array], Array],
    gamma: float,
    steps: int,
) -> Array:
    """States (steps, nodes, size); X̂ begins at X, which all nodes share."""
    public, states = x.copy(), []
    laplacian = mixing - np.eye(len(mixing))
    for _ in range(steps):
        x = x - local_step(field(x))
        public = public + compress(x - public)
        x = x + gamma * laplacian @ public
        states.append(x)
    return np.stack(states)


def top_k(rows: Array, k: int) -> Array:
    """The k largest magnitudes of each row, zeros else."""
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        where = np.argsort(-np.abs(row))[:k]
        out[where] = row[where]
    return kept


def scaled_sign(rows: Array) -> Array:
    """‖v‖₁/d · sgn(v) of each row."""
    return np.abs(rows).mean(axis=1, keepdims=True) * np.where(rows < 0, -1.0, 1.0)
