"""QSVRG (Alistarh et al. 2017, section 3.3) in plain Python and NumPy, one processor and one value after the other.

u_i = Q_√n(∇f_j(x) − ∇f_j(y) + ∇f(y));  x ← x − η/K Σ_i u_i;  after T steps y ← 1/T Σ x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tests.reference.qsgd_reference import encode, omega

Array = NDArray[np.float64]


def qsvrg(
    y: Array,
    component: Callable[[Array, int], Array],
    count: int,
    workers: int,
    rate: float,
    steps: int,
    epochs: int,
    samples: Iterator[int],
    uniforms: Iterator[float],
) -> list[tuple[Array, int, int]]:
    """(y, bits of all processors in the sparse code, in the dense one) after each epoch.

    `component(x, j)` is ∇f_j(x), of `count`; `samples` and `uniforms` are all that is drawn, in the order of use: for
    each step a sample for each processor, then a number in [0, 1) for each of its values.
    """
    n, s, done = len(y), math.isqrt(len(y) - 1) + 1, []
    for _ in range(epochs):
        full = sum(component(y, j) for j in range(count)) / count
        x, visited, sparse, dense = y, [], 32 * n * workers, 32 * n * workers
        for _ in range(steps):
            chosen = [next(samples) for _ in range(workers)]
            step = np.zeros(n)
            for j in chosen:
                u = component(x, j) - component(y, j) + full
                norm = math.sqrt(sum(value * value for value in u))
                levels = [math.floor(s * value / norm + next(uniforms)) for value in u]
                sparse += 32 + len(encode(levels))
                dense += 32 + sum(len(omega(abs(level) + 1)) + (level != 0) for level in levels)
                step += norm * np.array(levels) / s / workers
            x = x - rate * step
            visited.append(x)
        y = np.mean(visited, axis=0)
        done.append((y, sparse, dense))
    return done
