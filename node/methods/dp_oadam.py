"""dp_oadam"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class DpOadamConfig(Settings):
    """Decentralized parallel OAdam: gossip the parameters after the optimistic step.

    `every`: local steps between exchanges. `rounds`: gossip rounds an exchange (t). `overlap`: mix the
    parameters while the next gradient is computed from the unmixed ones (the D-PSGD order).
    """

    name: Literal["dp-oadam"]
    every: PositiveInt = 1
    rounds: PositiveInt = 1
    overlap: bool = False
