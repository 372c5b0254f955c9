"""Layers that the larger architectures share: spectrally normalised ones, (conditional) BatchNorm, the projection.

`spectral` divides a layer's weight by its largest singular value (Miyato et al. 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures.spectral import spectral_norm

LARGEST_SEED = 7
"""Pixels a side, at most, of the features that a generator begins with: 32 = 4·2³, 28 = 7·2², 64 = 4·2⁴."""

MEMORY_FORMAT = torch.channels_last
"""Memory format of features; bench/tasks.py compares it with the other one."""


def in_order(h: Tensor) -> Tensor:
    """The same features, laid out as convolutions are to find them."""
    return h.contiguous(memory_format=MEMORY_FORMAT)


def on_grid(h: Tensor, pixels: int) -> Tensor:
    """First step of a generator: a linear layer's outputs (n, C·pixels²) as features (n, C, pixels, pixels)."""
    return in_order(torch.unflatten(h, 1, (-1, pixels, pixels)))  # no size of the batch, which a trace would keep


def doublings(size: int) -> int:
    """How often a generator doubles its features to reach images of `size` pixels, from 4 … 7 where that divides."""
    count = 0
    while size % 2 == 0 and size > LARGEST_SEED:
        size //= 2
        count += 1
    return count


class Conv(nn.Conv2d):
    """A convolution of odd kernel that keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, spectral: bool = False, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self.spectral = spectral

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, effective(self.weight, self.spectral), self.bias, padding=self.padding)


class Linear(nn.Linear):
    """A linear layer."""

    def __init__(self, inputs: int, outputs: int, spectral: bool = False, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.spectral = spectral

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, effective(self.weight, self.spectral), self.bias)


def effective(weight: Tensor, spectral: bool) -> Tensor:
    """The weight that a layer works with."""
    return weight / spectral_norm(weight) if spectral else weight


class Norm(nn.Module):
    """The generator's BatchNorm as the settings have it: plain, conditional on labels, or none.

    Conditional (Dumoulin et al. 2017, de Vries et al. 2017): gain and shift of each class, rows of two tables.
    """

    def __init__(self, features: int, config: TaskConfig) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        if config.generator_norm == "batch":
            affine = config.classes is None
            self.norm = batch_norm(features, affine, tracked=config.batch_norm_buffers == "mixed")
        if config.classes is not None:
            self.gain = nn.Parameter(torch.empty(config.classes, features))
            self.shift = nn.Parameter(torch.empty(config.classes, features))

    def forward(self, h: Tensor, *labels: Tensor) -> Tensor:
        normal: Tensor = self.norm(h)
        if not labels:
            return normal
        gain, shift = (table[labels[0]][:, :, None, None] for table in (self.gain, self.shift))
        return torch.addcmul(shift, gain, normal)


def batch_norm(features: int, affine: bool = True, tracked: bool = False) -> nn.BatchNorm2d:
    """BatchNorm without its counter of batches, which would have no mean between nodes; the momentum is fixed."""
    norm = nn.BatchNorm2d(features, affine=affine, track_running_stats=tracked)
    norm.num_batches_tracked = None
    return norm


class Projection(nn.Module):
    """A critic's score ψ(φ) + ⟨V y, φ⟩ of pooled features φ (n, C); without classes ψ(φ) alone.

    Miyato and Koyama, "cGANs with Projection Discriminator" (ICLR 2018), equation 3.
    """

    def __init__(self, features: int, classes: int | None, spectral: bool) -> None:
        super().__init__()
        self.spectral = spectral
        self.score = Linear(features, 1, spectral)
        if classes is not None:
            self.classes = nn.Parameter(torch.empty(classes, features))

    def forward(self, pooled: Tensor, *labels: Tensor) -> Tensor:
        score: Tensor = self.score(pooled).squeeze(1)
        if labels:
            score = score + (effective(self.classes, self.spectral)[labels[0]] * pooled).sum(1)
        return score


def place_identity(name: str, tensor: Tensor) -> bool:
    """Set the gains of norms to 1 and leave their shifts at 0; whether the tensor was one of theirs."""
    if name.endswith(("norm.weight", "gain")):
        tensor.fill_(1.0)
        return True
    return name.endswith(("norm.bias", "shift"))
