"""Strongly convex finite sums with a condition number that is chosen: what QSVRG's theorem is about.

f = 1/m Σ_j f_j over m samples, every f_j convex and L-smooth, f ℓ-strongly convex; all in float64, so that f − f* can
be followed to a millionth of where it begins. These are no games, so a spec has no name for them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class FiniteSum(Protocol):
    """m = `count` functions of a vector of `size` values, L = `smoothness` and ℓ = `convexity` in the text above."""

    size: int
    count: int
    smoothness: float
    convexity: float

    def value(self, x: Array) -> float:
        """f(x)."""
        ...

    def gradient(self, x: Array, samples: NDArray[np.int64] | None = None) -> Array:
        """∇f_j(x) of each of the `samples`, shape (samples, size); without them ∇f(x), shape (size,)."""
        ...

    def minimum(self) -> Array:
        """x*, to the accuracy of float64."""
        ...


class Ridge:
    """f_j(x) = ½ (a_jᵀx − b_j)² + ½ μ‖x‖² with ‖a_j‖ = 1, so L = 1 + μ and, at worst, ℓ = μ.

    `condition`: L/ℓ > 1, which decides μ. The samples are drawn from `seed`.
    """

    def __init__(self, size: int, count: int, condition: float, seed: int = 0) -> None:
        self._a, self._b = _samples(size, count, condition, seed)
        self.size, self.count = size, count
        self.convexity = 1 / (condition - 1)
        self.smoothness = 1 + self.convexity

    def value(self, x: Array) -> float:
        return float(0.5 * ((self._a @ x - self._b) ** 2).mean() + 0.5 * self.convexity * (x @ x))

    def gradient(self, x: Array, samples: NDArray[np.int64] | None = None) -> Array:
        slopes = self._a @ x - self._b if samples is None else self._a[samples] @ x - self._b[samples]
        return _gradient(self._a, slopes, samples) + self.convexity * x

    def minimum(self) -> Array:
        hessian = self._a.T @ self._a / self.count + self.convexity * np.eye(self.size)
        return np.asarray(np.linalg.solve(hessian, self._a.T @ self._b / self.count))


class LogisticRegression:
    """f_j(x) = log(1 + exp(−b_j a_jᵀx)) + ½ μ‖x‖² with ‖a_j‖ = 1 and b_j = ±1, so L = ¼ + μ and, at worst, ℓ = μ.

    `condition`: L/ℓ > 1, which decides μ. The samples are drawn from `seed`.
    """

    def __init__(self, size: int, count: int, condition: float, seed: int = 0) -> None:
        self._a, b = _samples(size, count, condition, seed)
        self._b = np.where(b < 0, -1.0, 1.0)
        self.size, self.count = size, count
        self.convexity = 0.25 / (condition - 1)
        self.smoothness = 0.25 + self.convexity

    def value(self, x: Array) -> float:
        return float(np.logaddexp(0, -self._b * (self._a @ x)).mean() + 0.5 * self.convexity * (x @ x))

    def gradient(self, x: Array, samples: NDArray[np.int64] | None = None) -> Array:
        a, b = (self._a, self._b) if samples is None else (self._a[samples], self._b[samples])
        slopes = -b / (1 + np.exp(b * (a @ x)))
        return _gradient(self._a, slopes, samples) + self.convexity * x

    def minimum(self) -> Array:
        """By Newton's method, whose steps are safe here: they are few, and the last changes nothing."""
        x = np.zeros(self.size)
        for _ in range(50):
            p = 1 / (1 + np.exp(-(self._a @ x)))
            hessian = (self._a.T * (p * (1 - p))) @ self._a / self.count + self.convexity * np.eye(self.size)
            step = np.linalg.solve(hessian, self.gradient(x))
            x = x - step
            if np.linalg.norm(step) < 1e-14 * (1 + np.linalg.norm(x)):
                break
        return x


def _samples(size: int, count: int, condition: float, seed: int) -> tuple[Array, Array]:
    """Rows a_j on the unit sphere, and b_j from a noisy linear model."""
    if condition <= 1:
        raise ValueError(f"the condition L/ℓ must be above 1, got {condition}")
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((count, size))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    return a, a @ rng.standard_normal(size) + 0.5 * rng.standard_normal(count)


def _gradient(a: Array, slopes: Array, samples: NDArray[np.int64] | None) -> Array:
    """Slope times a_j for each of the samples; without them the mean over all."""
    return np.asarray(a.T @ slopes / len(a) if samples is None else slopes[:, None] * a[samples])
