"""DiLoCo: settings, capabilities and traffic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from gannet.node.methods.base import Carries, Method
from gannet.node.methods.formulas import Collective


class DilocoConfig(Method):
    """DiLoCo: `every` local steps, then an outer Nesterov step on the mean difference.

    The paper's `every` is 500, for runs of 88,000 steps.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.diloco:diloco"
    not_in_islands: ClassVar[str] = "averages over all nodes"
    not_returning: ClassVar[str] = (
        "keeps the outer optimizer's state equal on all nodes, and a neighbour's is of an earlier step than that at "
        "which a node comes in: use fedgan, or cp-oadam with average: parameters"
    )
    gossips: ClassVar[bool] = False
    mixes_by_rule: ClassVar[bool] = True
    keeps_mean: ClassVar[bool] = False  # the outer optimizer's momentum moves it

    name: Literal["diloco"]
    every: PositiveInt = 50
    outer_learning_rate: PositiveFloat = 0.7
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    collective: Collective = "ring"

    @property
    def on_loss(self) -> tuple[str, ...]:
        """Those who are left can form the average again: every average leaves all with the same bits."""
        return (*super().on_loss, "reform")

    @property
    def carries(self) -> Carries:
        """Differences, which the outer optimizer takes for gradients."""
        return "gradients"

    @property
    def averages(self) -> Collective:
        return self.collective

    @property
    def exchange_every(self) -> int:
        return self.every
