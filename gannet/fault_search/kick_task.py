"""The task of a search: nothing moves x but a kick at the first gradients, a different one on every node, and mixing.

So what mixing does to x can be read off x afterwards. Of the kicks, coordinate r of `generator.kick` moves on node r
alone: a row of the product of all mixing matrices so far. `generator.still` moves nowhere: it is 1 and 0 for ever,
unless weights do not sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gannet.node.layout import TensorSpec
from gannet.node.tasks.base import Gradient

KICKS = 2  # dposg needs two gradients for its first step
IMAGE_SIDE = 8
_ROWS, _COLUMNS = 4, 3


class KickTask:
    """A SplitTask; `samples`: values of a minibatch. `largest`: the largest magnitude that it was ever handed."""

    def __init__(self, rank: int, world: int, batch: int = 1) -> None:
        matrix = _ROWS * _COLUMNS
        self.layout: tuple[TensorSpec, ...] = (
            TensorSpec("generator.kick", (world,), 0, "generator"),
            TensorSpec("generator.still", (2,), world, "generator"),
            TensorSpec("discriminator.matrix", (_ROWS, _COLUMNS), world + 2, "discriminator"),
        )
        self.kick, self.still = slice(0, world), slice(world, world + 2)
        self.players = {"generator": slice(0, world + 2), "discriminator": slice(world + 2, world + 2 + matrix)}
        self.size = world + 2 + matrix
        self.buffers = slice(self.size, self.size)
        self.sample_values = batch * IMAGE_SIDE**2
        self.largest = 0.0
        self.called = 0
        self._field = torch.zeros(self.size)
        self._field[rank] = -1.0
        drawn = np.random.default_rng([rank, world]).integers(-4, 5, matrix)
        self._field[self.players["discriminator"]] = torch.from_numpy(drawn / 8).float()

    def initial(self) -> Tensor:
        x = torch.zeros(self.size)
        x[self.still] = torch.tensor([1.0, 0.0])
        return x

    def gradient(self, x: Tensor) -> Gradient:
        return self._gradient(x, tuple(self.players))

    def _gradient(self, x: Tensor, active: tuple[str, ...]) -> Gradient:
        self._see(x)
        self.called += 1
        field = torch.zeros(self.size)
        for player in active if self.called <= KICKS else ():
            field[self.players[player]] = self._field[self.players[player]]
        return Gradient(field, active, None, dict.fromkeys(active, 0.0))

    def _see(self, values: Tensor) -> None:
        self.largest = max(self.largest, float(values.abs().max()))

    def fakes(self, x: Tensor, batches: int) -> Tensor:
        """The first kick, everywhere."""
        return x[:1].expand(batches, self.sample_values).clone()

    def generator_gradient(self, slopes: Tensor) -> Gradient:
        """A kick, whatever the slopes."""
        return self._gradient(slopes, ("generator",))

    def critic_gradient(self, x: Tensor, fakes: Tensor) -> Gradient:
        """A kick, whatever the fakes."""
        self._see(fakes)
        return self._gradient(x, ("discriminator",))

    def slopes(self, x: Tensor, fakes: Tensor) -> tuple[Tensor, float]:
        """The fakes themselves."""
        self._see(fakes)
        return fakes.clone(), 0.0

    def state(self) -> dict[str, Tensor]:
        return {"called": torch.tensor(self.called)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.called = int(state["called"])

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        return torch.zeros(n, 1, IMAGE_SIDE, IMAGE_SIDE)
