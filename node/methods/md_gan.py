"""md_gan"""

from __future__ import annotations

from math import floor, log
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class MdGanConfig(Settings):
    """MD-GAN: rank 0 holds the generator and no data, each other node a discriminator and its share of the data.

    `local_steps` (L): the discriminator's steps for each of the generator's. `swap_every`: after so many of these the
    discriminators change places, about an epoch in the paper; null for never. `batches` (k): minibatches generated a
    step, of which a worker gets two; null for ⌊ln N⌋ of N workers, and one at least.
    """

    name: Literal["md-gan"]
    local_steps: PositiveInt = 1
    swap_every: PositiveInt | None = 100
    batches: PositiveInt | None = None

    def batch_count(self, world: int) -> int:
        """k."""
        return self.batches or max(1, floor(log(world - 1)))
