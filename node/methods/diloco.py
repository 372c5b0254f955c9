"""diloco"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class DilocoConfig(Settings):
    """DiLoCo: `every` local steps, then an outer Nesterov step on the mean difference.

    The paper's `every` is 500, for runs of 88,000 steps.
    """

    name: Literal["diloco"]
    every: PositiveInt = 50
    outer_learning_rate: PositiveFloat = 0.7
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    collective: Literal["server", "ring"] = "ring"
