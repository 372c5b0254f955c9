"""FedGAN: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.methods.base import Method
from gannet.node.methods.cp_oadam import CpOadamConfig
from gannet.node.methods.formulas import Collective


class FedganConfig(Method):
    """FedGAN: parameters averaged by a server every `every` local steps, which cp-oadam does too."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.fedgan:fedgan"
    not_in_islands: ClassVar[str] = "averages over all nodes"
    not_returning: ClassVar[str] = ""
    gossips: ClassVar[bool] = False
    mixes_by_rule: ClassVar[bool] = True
    moves_by: ClassVar[Literal["", "adam", "oadam"]] = "oadam"

    name: Literal["fedgan"]
    every: PositiveInt = 20

    @property
    def on_loss(self) -> tuple[str, ...]:
        """Those who are left can form the average again: every average leaves all with the same bits."""
        return (*super().on_loss, "reform")

    @property
    def averages(self) -> Collective:
        return "server"

    @property
    def exchange_every(self) -> int:
        return self.every

    def as_cp_oadam(self) -> CpOadamConfig:
        """The same method under its other name."""
        return CpOadamConfig(name="cp-oadam", every=self.every)
