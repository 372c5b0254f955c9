"""CP-OAdam: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt, model_validator

from gannet.node.methods.base import Carries, Method
from gannet.node.methods.formulas import Collective


class CpOadamConfig(Method):
    """Centralized parallel OAdam: all nodes average, by way of rank 0 or around a ring.

    `average`: the parameters after each node's own step, or the gradients before it.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.cp_oadam:cp_oadam"
    not_in_islands: ClassVar[str] = "averages over all nodes"
    not_returning: ClassVar[str] = ""
    gossips: ClassVar[bool] = False
    mixes_by_rule: ClassVar[bool] = True
    moves_by: ClassVar[Literal["", "adam", "oadam"]] = "oadam"

    name: Literal["cp-oadam"]
    collective: Collective = "server"
    average: Literal["parameters", "gradients"] = "parameters"
    every: PositiveInt = 1

    @model_validator(mode="after")
    def _gradients_every_step(self) -> CpOadamConfig:
        if self.average == "gradients" and self.every > 1:
            raise ValueError("averaging gradients happens every step: leave out `every`, or average parameters")
        return self

    def check_returns(self) -> None:
        """Averaged gradients keep nodes equal that are equal, and never make them so."""
        if self.average == "gradients":
            raise ValueError(
                "a lost node cannot come back: with average: gradients all nodes have the same parameters, and a "
                "neighbour's are of an earlier step than that at which a node comes in: use average: parameters"
            )
        super().check_returns()

    @property
    def on_loss(self) -> tuple[str, ...]:
        """Those who are left can form the average again: every average leaves all with the same bits."""
        return (*super().on_loss, "reform")

    @property
    def carries(self) -> Carries:
        return self.average

    @property
    def averages(self) -> Collective:
        return self.collective

    @property
    def exchange_every(self) -> int:
        return self.every
