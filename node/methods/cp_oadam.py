"""cp_oadam"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt, model_validator

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class CpOadamConfig(Settings):
    """Centralized parallel OAdam: all nodes average, by way of rank 0 or around a ring.

    `average`: the parameters after each node's own step, or the gradients before it.
    """

    name: Literal["cp-oadam"]
    collective: Literal["server", "ring"] = "server"
    average: Literal["parameters", "gradients"] = "parameters"
    every: PositiveInt = 1

    @model_validator(mode="after")
    def _gradients_every_step(self) -> CpOadamConfig:
        if self.average == "gradients" and self.every > 1:
            raise ValueError("averaging gradients happens every step: leave out `every`, or average parameters")
        return self
