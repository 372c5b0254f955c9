"""What the checks of tasks share: how they build the task, and when two tensors are the same."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gannet.node.tasks.base import AnyTask


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal in shape and every bit, so that NaN equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) if a.numel() else True


class Make(Protocol):
    """Builds the task again."""

    def __call__(self, rank: int, training: bool = True) -> AnyTask:
        """As that rank of a world of two, with one seed for all; or as the scorer (rank 0, not training)."""
        ...
