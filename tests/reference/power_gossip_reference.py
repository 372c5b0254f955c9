"""PowerGossip (Vogels, Karimireddy, Jaggi 2020, arXiv 2008.01425) in NumPy, over all nodes of a symmetric graph.

For every edge i < j and its matrix D = X_i − X_j, with an orthonormal basis b of one side in turn: the projection
D b bᵀ (or b bᵀ D) goes from X_i to X_j, by w_ij; the image of b is the next basis. All edges use the X before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Place = tuple[int, int, int]  # where a matrix begins in the flat vector, its rows and its columns


class PowerGossip:
    """The bases of all edges, and rounds with them. `draw(i, j)` gives edge i < j's random matrices, by shape."""

    def __init__(
        self, matrices: Sequence[Place], rank: int, draw: Callable[[int, int], Callable[[int, int], Array]]
    ) -> None:
        self._matrices, self._rank, self._draw = matrices, rank, draw
        self._bases: dict[tuple[int, int], list[Array]] = {}
        self._sides: dict[tuple[int, int], bool] = {}
        self._random: dict[tuple[int, int], Callable[[int, int], Array]] = {}

    def round(self, x: Array, mixing: Array, products: int) -> Array:
        """X after so many products on each edge, each of them applied; what is no matrix is mixed once, W X."""
        new, whole = x.copy(), np.ones(x.shape[1], dtype=bool)
        for start, rows, columns in self._matrices:
            whole[start : start + rows * columns] = False
        new[:, whole] = (mixing @ x)[:, whole]
        for _ in range(products):
            before = new.copy()
            for i, j in zip(*np.nonzero(np.triu(mixing, 1)), strict=True):
                for number, (start, rows, columns) in enumerate(self._matrices):
                    there = slice(start, start + rows * columns)
                    difference = (before[i, there] - before[j, there]).reshape(rows, columns)
                    moved = mixing[i, j] * self._project(int(i), int(j), number, difference).ravel()
                    new[i, there] -= moved
                    new[j, there] += moved
                self._sides[int(i), int(j)] ^= True
        return new

    def _project(self, i: int, j: int, number: int, difference: Array) -> Array:
        if (i, j) not in self._bases:
            random = self._random[i, j] = self._draw(i, j)
            self._bases[i, j] = [np.linalg.qr(random(columns, self._rank))[0] for _, _, columns in self._matrices]
            self._sides[i, j] = True
        right, basis = self._sides[i, j], self._bases[i, j][number]
        image = difference @ basis if right else difference.T @ basis
        zero = not image.any()
        self._bases[i, j][number] = np.linalg.qr(self._random[i, j](*image.shape) if zero else image)[0]
        return image @ basis.T if right else basis @ image.T


def power_gossip(
    x: Array,
    field: Callable[[Array], Array],
    local_step: Callable[[Array], Array],
    mixing: Callable[[int], Array],
    edges: PowerGossip,
    products: int,
    steps: int,
) -> Array:
    """States after each step, shape (steps, nodes, size). `mixing(k)`: W of step k, from 1."""
    states = []
    for k in range(1, steps + 1):
        x = edges.round(x - local_step(field(x)), mixing(k), products)
        states.append(x)
    return np.stack(states)
