"""A small GAN whose players can live apart, with gradients that can be written down: affine against quadratic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gannet.node.layout import TensorSpec
from gannet.node.tasks.base import Gradient

SIDE, LATENT = 8, 2
VALUES = SIDE * SIDE  # of a sample: a grey image of that side
DATA = {"image_size": SIDE}  # what a configuration must say of such samples


class SplitGame:
    """G(z) = W z + c; D(s) = v·s + q |s|²/2. Samples of a rank lie around a point of its own.

    The critic's loss is mean D(G(z)) − mean D(s) + (|v|² + q²)/2, the generator's −mean D(G(z)). `made` counts the
    generator's minibatches, as a running statistic. `batch`: samples in a minibatch.
    """

    def __init__(self, rank: int, batch: int = 8, seed: int = 0) -> None:
        self.layout = (
            TensorSpec("generator.weight", (VALUES, LATENT), 0, "generator"),
            TensorSpec("generator.bias", (VALUES,), 128, "generator"),
            TensorSpec("discriminator.v", (VALUES,), 192, "discriminator"),
            TensorSpec("discriminator.q", (1,), 256, "discriminator"),
            TensorSpec("generator.made", (1,), 257, "buffers"),
        )
        self.players = {"generator": slice(0, 192), "discriminator": slice(192, 257)}
        self.buffers, self.size = slice(257, 258), 258
        self.sample_values = batch * VALUES
        self._batch, self._seed = batch, seed
        self._random = np.random.default_rng([seed, rank, 5])
        self._centre = np.random.default_rng([seed, rank, 6]).standard_normal(VALUES)
        self._noise = torch.empty(0)
        self._count = torch.empty(0)

    def noise(self, batches: int) -> np.ndarray:
        """(batches, batch, LATENT)."""
        return self._random.standard_normal((batches, self._batch, LATENT))

    def real(self) -> np.ndarray:
        """(batch, VALUES)."""
        return self._centre + 0.5 * self._random.standard_normal((self._batch, VALUES))

    def initial(self) -> Tensor:
        x = torch.from_numpy(np.random.default_rng([self._seed, 7]).standard_normal(self.size)).float()
        x[self.buffers] = 0
        return x

    def fakes(self, x: Tensor, batches: int) -> Tensor:
        self._noise = torch.from_numpy(self.noise(batches)).float()
        self._count = x[self.buffers] + batches
        return (self._noise @ x[:128].view(VALUES, LATENT).T + x[128:192]).view(batches, -1)

    def generator_gradient(self, slopes: Tensor) -> Gradient:
        each = slopes.view(len(slopes), self._batch, VALUES)
        weight = torch.einsum("kbn,kbd->nd", each, self._noise)
        field = torch.cat([weight.flatten(), each.sum((0, 1)), torch.zeros(65)])
        return Gradient(field, ("generator",), self._count, {})

    def critic_gradient(self, x: Tensor, fakes: Tensor) -> Gradient:
        fake, real = fakes.view(-1, VALUES), torch.from_numpy(self.real()).float()
        v = fake.mean(0) - real.mean(0) + x[192:256]
        q = (fake.square().sum(1).mean() - real.square().sum(1).mean()) / 2 + x[256]
        return Gradient(torch.cat([torch.zeros(192), v, q.view(1)]), ("discriminator",), None, {"discriminator": 0.0})

    def slopes(self, x: Tensor, fakes: Tensor) -> tuple[Tensor, float]:
        fake, v, q = fakes.view(-1, VALUES), x[192:256], x[256]
        return (-(v + q * fake) / len(fake)).flatten(), -float((fake @ v + q * fake.square().sum(1) / 2).mean())

    def gradient(self, x: Tensor) -> Gradient:
        raise AssertionError("the players of this game live apart")

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        return None

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        return x[128:192].expand(n, VALUES).view(n, 1, SIDE, SIDE)
