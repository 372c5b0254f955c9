"""Spectral normalisation without a state that nodes would have to mix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SQUARINGS = 10
"""Repeated squarings of the Gram matrix in `spectral_norm`: 2**10 power iterations."""


def spectral_norm(weight: Tensor) -> Tensor:
    """Largest singular value of `weight` seen as a matrix (rows: output channels), differentiable.

    SNGAN (Miyato et al. 2018) carries one power-iteration vector from step to step. That vector would be a
    state which nodes have to mix, so here the iteration starts afresh: 2**SQUARINGS steps, by repeated
    squaring of the smaller Gram matrix. As in SNGAN the singular vectors are constants in the derivative.
    """
    matrix = weight.flatten(1)
    with torch.no_grad():
        tall = matrix.shape[0] > matrix.shape[1]
        gram = matrix.T @ matrix if tall else matrix @ matrix.T
        for _ in range(SQUARINGS):
            gram = gram / torch.linalg.vector_norm(gram)
            gram = gram @ gram
        column = gram.diagonal().argmax()  # this column cannot be orthogonal to the top singular vector
        first = F.normalize(gram.index_select(1, column.view(1)).squeeze(1), dim=0)
        second = F.normalize((matrix if tall else matrix.T) @ first, dim=0)
        left, right = (second, first) if tall else (first, second)
    norm = left @ (matrix @ right)
    if torch.onnx.is_in_onnx_export():  # a number there: the file's weights are divided by it once
        return torch.tensor(norm.item())
    return norm
