"""SGP: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from gannet.node.methods.base import Method
from gannet.node.methods.formulas import FlatVector, Group

PUSH_WEIGHT_BYTES = 4  # sent with every copy


class SgpConfig(Method):
    """Stochastic Gradient Push: push-sum along the edges of any topology, whose weights do not count."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.sgp:sgp"
    not_in_islands: ClassVar[str] = "pushes weight that would be lost over a cut link"
    takes_turns: ClassVar[bool] = True
    keeps_mean: ClassVar[bool] = False  # push-sum keeps the sum of what is pushed, not of x

    name: Literal["sgp"]

    def copy_bytes(self, group: Group, vector: FlatVector) -> int:
        """A copy and its weight."""
        return super().copy_bytes(group, vector) + PUSH_WEIGHT_BYTES
