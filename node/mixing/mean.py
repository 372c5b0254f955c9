"""The weighted mean, x_i ← Σ_j w_ij x_j: plain gossip, which believes every peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from gannet.node.mixing.base import Mix, MixingRule

if TYPE_CHECKING:
    from torch import Tensor


class _Sum:
    """Adds up what comes in at once, so that no message is kept."""

    def __init__(self, own: Tensor, weight: float) -> None:
        self._mixed = own * weight

    def add(self, values: Tensor, weight: float) -> None:
        self._mixed.add_(values, alpha=weight)

    def result(self) -> Tensor:
        return self._mixed


class MeanRule(MixingRule):
    """The mean by the topology's weights; of a server, the mean of the nodes that are there."""

    robust: ClassVar[bool] = False

    name: Literal["mean"] = "mean"

    def begin(self, own: Tensor, weight: float) -> Mix:
        return _Sum(own, weight)

    def equally(self, own: Tensor, others: Sequence[Tensor]) -> Tensor:
        total = own.clone()
        for values in others:
            total += values
        return total / (1 + len(others))
