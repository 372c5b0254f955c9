"""DCGAN (Radford, Metz, Chintala 2016): strided 4×4 convolutions, no pooling, BatchNorm in both players.

`width` features at half the image's size, doubled at each halving down to the generator's 4×4 (28 pixels: 7×7).
No layer of a network with BatchNorm has a bias. With `loss: non-saturating` the critic has BatchNorm as in the
paper, but for its first layer and its last. A gradient penalty is a matter of single samples, so with `wgan-gp` it
has none; with `hinge` its weights are divided by their spectral norms instead.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures.base import Network
from gannet.node.tasks.gan.architectures.layers import (
    Linear,
    Norm,
    Projection,
    batch_norm,
    doublings,
    effective,
    in_order,
    on_grid,
    place_identity,
)

LEAK = 0.2
DEVIATION = 0.02  # of all initial weights


class DcganNetwork(Network):
    """Base of both networks: all weights are N(0, 0.02²), as in the paper, section 4."""

    def initialise(self, name: str, tensor: Tensor, random: torch.Generator) -> None:
        """See Network."""
        norm_of_critic = name.startswith("norms.") and name.endswith((".weight", ".bias"))
        if norm_of_critic and tensor.dim() == 1:
            tensor.fill_(1.0 if name.endswith(".weight") else 0.0)
        elif not place_identity(name, tensor) and tensor.dim() > 1:
            tensor.normal_(0.0, DEVIATION, generator=random)


class Generator(DcganNetwork):
    """Noise (n, latent) to images (n, C, size, size): a linear layer, doublings, tanh."""

    def __init__(self, config: TaskConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, size, _ = shape
        count = doublings(size)
        self.grid = size // 2**count
        bias = config.generator_norm == "none"
        features = [config.generator_features * 2**step for step in reversed(range(count))]
        self.project = Linear(config.latent, features[0] * self.grid**2, bias=bias)
        self.norms = nn.ModuleList(Norm(f, config) for f in features)
        self.doubles = nn.ModuleList(
            nn.ConvTranspose2d(fro, to, 4, stride=2, padding=1, bias=bias)
            for fro, to in zip(features, [*features[1:], channels], strict=True)
        )

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        h = on_grid(self.project(z), self.grid)
        for norm, double in zip(self.norms, self.doubles, strict=True):
            h = double(F.relu(norm(h, *labels)))
        return torch.tanh(h)


class Critic(DcganNetwork):
    """Images (n, C, size, size) to scores (n,): halvings, a linear layer."""

    def __init__(self, config: TaskConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, size, _ = shape
        count = doublings(size)
        normalised = config.loss == "non-saturating"
        self.spectral = config.loss == "hinge"
        self.mixes_samples = normalised
        features = [config.width * 2**step for step in range(count)]
        self.halves = nn.ModuleList(
            nn.Conv2d(fro, to, 4, stride=2, padding=1, bias=not normalised)
            for fro, to in zip([channels, *features], features, strict=False)
        )
        # Never in use after training: a critic needs no running statistics, and a minibatch normalises itself.
        self.norms = nn.ModuleList(
            batch_norm(f) if normalised and step else nn.Identity() for step, f in enumerate(features)
        )
        self.head = Projection(features[-1] * (size // 2**count) ** 2, config.classes, self.spectral)
        if normalised:
            self.head.score.register_parameter("bias", None)

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        h = in_order(images)
        for halve, norm in zip(self.halves, self.norms, strict=True):
            assert isinstance(halve, nn.Conv2d)
            h = F.conv2d(h, effective(halve.weight, self.spectral), halve.bias, stride=2, padding=1)
            h = F.leaky_relu(norm(h), LEAK)
        score: Tensor = self.head(h.flatten(1), *labels)
        return score
