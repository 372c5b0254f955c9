"""Self-centred clipping: a node moves towards each peer by a bounded distance.

He, Karimireddy, Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip" (arXiv 2202.01545), algorithm 1:

    x_i ← Σ_j w_ij (x_i + CLIP(x_j − x_i, τ_i)),   CLIP(z, τ) = min(1, τ/‖z‖) z

The weights of the topology stay as they are. The paper's theory takes τ_i from the distances of i's honest peers,
which no node knows. Here, as in the authors' published experiments, the b peers that are farthest from x_i in a round
are taken for Byzantine, and τ_i is the distance of the farthest of the others: no peer can then move a node farther
than one that is taken for honest. One that pulls to the same side in every round still moves it by w_ij τ_i.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from gannet.node.mixing.base import Mix, MixingRule

if TYPE_CHECKING:
    from torch import Tensor


class _Clipped:
    """Keeps differences until all are there. `radius`: τ; None: from the differences, with `byzantine` bad peers."""

    def __init__(self, own: Tensor, radius: float | None, byzantine: int) -> None:
        self._own, self._radius, self._byzantine = own, radius, byzantine
        self._far: list[tuple[float, float, Tensor]] = []  # distance, weight, x_j − x_i

    def add(self, values: Tensor, weight: float) -> None:
        difference = values - self._own
        self._far.append((_norm(difference), weight, difference))

    def result(self) -> Tensor:
        radius, mixed = self.radius(), self._own.clone()
        for distance, weight, difference in self._far:
            if isfinite(distance):  # else not even the difference is finite, and has no direction to move in
                mixed.add_(difference, alpha=weight * (min(1.0, radius / distance) if distance else 1.0))
        return mixed

    def radius(self) -> float:
        """τ of the peers added so far."""
        if self._radius is not None:
            return self._radius
        near = sorted(distance for distance, _, _ in self._far)[: -self._byzantine]
        return near[-1] if near else 0.0


def _norm(x: Tensor) -> float:
    """The 2-norm; infinite where a value is. In float64: 1e30² is no float32."""
    size = float(x.abs().max()) if len(x) else 0.0
    return size * float((x / size).norm()) if size and isfinite(size) else size


class ClipRule(MixingRule):
    """`byzantine`: how many of a node's peers may be bad (b), from which its radius follows in each round.

    `radius`: a τ of one's own instead, the same for all nodes and rounds.
    """

    by_coordinate: ClassVar[bool] = False

    name: Literal["clip"] = "clip"
    byzantine: PositiveInt | None = None
    radius: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.byzantine is not None and self.radius is not None:
            raise ValueError("give byzantine, from which the radius follows, or a radius, not both")
        return self

    @property
    def least_peers(self) -> int:
        return 1 if self.radius is not None else 1 + (self.byzantine or 1)

    def begin(self, own: Tensor, weight: float) -> Mix:
        return _Clipped(own, self.radius, self.byzantine or 1)
