"""A node's share of the data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Images uint8 (n, C, H, W) and their labels int64 (n,), on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)
