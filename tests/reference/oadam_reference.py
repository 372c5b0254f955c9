"""Optimistic Adam in NumPy, all nodes at once: what the references use in the place of their papers' γ g.

θ_t = θ_{t−1} − 2 ŝ_t m_t/(√v_t+ε) + ŝ_{t−1} m_{t−1}/(√v_{t−1}+ε), "Training GANs with Optimism".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class OptimisticAdam:
    """step(G) is what to subtract from X for gradients G, both of shape (nodes, size)."""

    def __init__(self, rate: float, beta1: float, beta2: float, epsilon: float) -> None:
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.t, self.m, self.v, self.previous = 0, 0.0, 0.0, 0.0

    def step(self, g: Array) -> Array:
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        scale = self.rate * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        now = scale * self.m / (np.sqrt(self.v) + self.epsilon)
        change = 2 * now - self.previous
        self.previous = now
        return change
