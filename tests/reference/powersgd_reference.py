"""PowerSGD (Vogels et al. 2019, algorithms 1 and 2) in NumPy, with the warm start that PyTorch's hook has.

For all nodes at once and one matrix. Orthogonal bases by QR: PyTorch's differ in signs, which no product shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class PowerSGD:
    """The mean of the nodes' matrices n × m, as every node has it; `q`: the first Q, m × r."""

    def __init__(self, world: int, shape: tuple[int, int], q: np.ndarray) -> None:
        self._errors = [np.zeros(shape) for _ in range(world)]
        self._q = q.astype(np.float64)

    def __call__(self, gradients: Sequence[np.ndarray]) -> np.ndarray:
        """One round; `gradients`: by rank."""
        whole = [g + e for g, e in zip(gradients, self._errors, strict=True)]
        q, _ = np.linalg.qr(self._q)
        p, _ = np.linalg.qr(sum(matrix @ q for matrix in whole))
        self._q = sum(matrix.T @ p for matrix in whole) / len(whole)
        mean: np.ndarray = p @ self._q.T
        self._errors = [matrix - mean for matrix in whole]
        return mean
