"""Whether all of many numbers are finite, in one pass without a temporary of their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gannet.node.codecs.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity among them; true of none."""
    # NaN spreads to both extremes and infinity is one.
    return not values.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())
