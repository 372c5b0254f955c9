"""Selects the tensors of a vector that are sent as products with a few directions: those that become shorter.

A tensor of shape (o, i, h, w) counts as a matrix of o rows and i·h·w columns (Vogels et al. 2020, as in PowerSGD).
Vectors, running statistics and matrices that are no longer than their own factors are sent uncompressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from gannet.node.layout import BUFFERS, TensorSpec


class Matrix(NamedTuple):
    """Where a matrix lies in the flat vector, row-major."""

    place: slice
    rows: int
    columns: int

    def of(self, x: Tensor) -> Tensor:
        """The matrix inside x, a view of shape (rows, columns)."""
        return x[self.place].view(self.rows, self.columns)


class LowRank:
    """The matrices of a layout whose factors of rank `rank` are shorter than they are, and the rest."""

    def __init__(self, layout: Sequence[TensorSpec], rank: int) -> None:
        self.matrices: list[Matrix] = []
        self._rest: list[slice] = []
        for spec in layout:
            rows, columns = (spec.shape[0], prod(spec.shape[1:])) if len(spec.shape) > 1 else (1, prod(spec.shape))
            if spec.player != BUFFERS and rank * (rows + columns) < rows * columns:
                self.matrices.append(Matrix(spec.place, rows, columns))
            else:
                self._rest.append(spec.place)
        self.rest: int = sum(place.stop - place.start for place in self._rest)
        # One product of every matrix from its right side, and one from its left, in values.
        self.from_right: int = rank * sum(matrix.rows for matrix in self.matrices)
        self.from_left: int = rank * sum(matrix.columns for matrix in self.matrices)

    def rest_of(self, x: Tensor) -> Tensor:
        """The values that are sent uncompressed, flat."""
        return torch.cat([x[place] for place in self._rest]) if self._rest else x[:0]

    def add_rest(self, x: Tensor, change: Tensor, weight: float) -> None:
        """Add weight · change, with the places of `rest_of`, to x."""
        begin = 0
        for place in self._rest:
            x[place].add_(change[begin : (begin := begin + place.stop - place.start)], alpha=weight)
