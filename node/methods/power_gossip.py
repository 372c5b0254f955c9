"""power_gossip"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class PowerGossipConfig(Settings):
    """PowerGossip: gossip of the low-rank part of neighbours' differences; nothing to tune.

    `rank`: directions that a product has. `iterations`: products a step, from the right and the left in turn.
    """

    name: Literal["power-gossip"]
    rank: PositiveInt = 1
    iterations: PositiveInt = 2
