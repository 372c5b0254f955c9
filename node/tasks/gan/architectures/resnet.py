"""Residual networks: WGAN-GP's for CIFAR-10 (Gulrajani et al. 2017, appendix) and SNGAN's (Miyato et al. 2018).

They differ in the loss and what comes with it, and in width: WGAN-GP's have 128 features everywhere, and its critic
pools by the mean; with `loss: hinge` the critic's weights are divided by their spectral norms and it pools by the
sum, and SNGAN's generator has 256 features.

To 32 pixels the generator takes three doublings from 4×4; the critic two halvings, to 8×8, and two more blocks.
Images of 64 and 128 pixels take one and two blocks more in each, with half and a quarter of the features there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures.base import Network
from gannet.node.tasks.gan.architectures.layers import (
    Conv,
    Linear,
    Norm,
    Projection,
    doublings,
    in_order,
    on_grid,
    place_identity,
)

FULL_WIDTH_PIXELS = 32
COARSEST_PIXELS = 8
"""Critics halve their features down to this; SNGAN's and WGAN-GP's for CIFAR-10 end so."""


def features_at(width: int, pixels: int) -> int:
    """Features of blocks at a resolution of that many pixels per side."""
    return max(1, width * FULL_WIDTH_PIXELS // max(pixels, FULL_WIDTH_PIXELS))


class UpBlock(nn.Module):
    """norm, ReLU, double, 3×3; norm, ReLU, 3×3; plus the doubled input through 1×1."""

    def __init__(self, inputs: int, outputs: int, config: TaskConfig, spectral: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(inputs, config), Norm(outputs, config)
        self.conv1 = Conv(inputs, outputs, 3, spectral)
        self.conv2 = Conv(outputs, outputs, 3, spectral)
        self.shortcut = Conv(inputs, outputs, 1, spectral)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        h = F.relu(self.norm1(x, *labels))
        h = self.conv1(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = self.conv2(F.relu(self.norm2(h, *labels)))
        # A 1×1 convolution and the doubling commute: the smaller image costs a quarter.
        doubled = F.interpolate(self.shortcut(x), scale_factor=2.0, mode="nearest")
        result: Tensor = h + doubled
        return result


class DownBlock(nn.Module):
    """ReLU, 3×3, ReLU, 3×3, and halve; plus the halved input through 1×1. Without `halve`, plus the input itself.

    first: the optimised block that sees the image, without the first ReLU and as wide inside as at its end.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, spectral: bool, first: bool = False) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        hidden = outputs if first else inputs
        self.conv1 = Conv(inputs, hidden, 3, spectral)
        self.conv2 = Conv(hidden, outputs, 3, spectral)
        self.shortcut = Conv(inputs, outputs, 1, spectral) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else F.relu(x)
        h = self.conv2(F.relu(self.conv1(h)))
        if not self.halve:
            plain: Tensor = h + self.shortcut(x)
            return plain
        # Pooling and a 1×1 convolution commute as well, so all blocks may pool first.
        result: Tensor = F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return result


class ResidualNetwork(Network):
    """Base of both networks: a hook for further blocks between their own, and the initial weights."""

    def after(self, pixels: int, size: int, features: int) -> list[nn.Module]:
        """Modules inserted after the block that ends at `pixels` per side, for images of `size`."""
        return []

    def initialise(self, name: str, tensor: Tensor, random: torch.Generator) -> None:
        """N(0, 2/(fan_in + fan_out)), of twice that variance inside residual branches, as in WGAN-GP's code."""
        if place_identity(name, tensor) or tensor.dim() < 2:
            return
        inside = ".conv1." in name or ".conv2." in name
        fans = (tensor.shape[0] + tensor.shape[1]) * tensor[0, 0].numel()
        tensor.normal_(0.0, ((4 if inside else 2) / fans) ** 0.5, generator=random)


class Generator(ResidualNetwork):
    """Noise (n, latent) to images (n, C, size, size): a linear layer, doublings, norm, ReLU, 3×3, tanh."""

    spectral = False

    def __init__(self, config: TaskConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, size, _ = shape
        width, count = config.generator_features, doublings(size)
        self.grid = size // 2**count
        self.project = Linear(config.latent, features_at(width, self.grid) * self.grid**2, self.spectral)
        sides = [self.grid * 2**step for step in range(count + 1)]
        blocks: list[nn.Module] = []
        for fro, to in pairwise(sides):
            blocks.append(UpBlock(features_at(width, fro), features_at(width, to), config, self.spectral))
            blocks.extend(self.after(to, shape[1], features_at(width, to)))
        self.blocks = nn.ModuleList(blocks)
        self.norm = Norm(features_at(width, size), config)
        self.image = Conv(features_at(width, size), channels, 3, self.spectral)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        h = on_grid(self.project(z), self.grid)
        for block in self.blocks:
            h = block(h, *labels) if isinstance(block, UpBlock) else block(h)
        return torch.tanh(self.image(F.relu(self.norm(h, *labels))))


class Critic(ResidualNetwork):
    """Images (n, C, size, size) to scores (n,): halvings, two blocks, ReLU, global pool, a linear layer; no norm."""

    def __init__(self, config: TaskConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, size, _ = shape
        self.spectral = config.loss == "hinge"
        width, inputs = config.width, channels
        blocks: list[nn.Module] = []
        while (size > COARSEST_PIXELS and size % 2 == 0) or not blocks:
            size //= 2
            features = features_at(width, size)
            blocks.append(DownBlock(inputs, features, True, self.spectral, first=not blocks))
            blocks.extend(self.after(size, shape[1], features))
            inputs = features
        blocks.append(DownBlock(inputs, width, False, self.spectral))
        blocks.append(DownBlock(width, width, False, self.spectral))
        self.blocks = nn.Sequential(*blocks)
        self.head = Projection(width, config.classes, self.spectral)

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        h = self.blocks(in_order(images))
        pooled = F.relu(h).sum((2, 3)) if self.spectral else F.relu(h).mean((2, 3))
        score: Tensor = self.head(pooled, *labels)
        return score
