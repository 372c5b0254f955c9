"""fedgan"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass
from gannet.node.methods.cp_oadam import CpOadamConfig


class FedganConfig(Settings):
    """FedGAN: parameters averaged by a server every `every` local steps, which cp-oadam does too."""

    name: Literal["fedgan"]
    every: PositiveInt = 20

    def as_cp_oadam(self) -> CpOadamConfig:
        """The same method under its other name."""
        return CpOadamConfig(name="cp-oadam", every=self.every)
