"""Generator and critic of DCGAN's kind (Radford et al. 2016) for small square images.

Built for many small steps on few cores. Features run in channels-last order, which the generator's first
layer writes and the critic's last one reads. The layers next to the image, with 1 or 3 channels on one
side, are matrix products over its patches: two to four times as fast on a CPU as the convolution they equal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.gan.architectures.base import Network
from gannet.node.tasks.gan.architectures.spectral import spectral_norm

LEAK = 0.1


class Generator(Network):
    """Noise (n, latent) to images (n, channels, size, size) in [-1, 1]: one linear layer, two doublings."""

    def __init__(self, latent: int, width: int, shape: tuple[int, int, int], norm: str, buffers: str) -> None:
        super().__init__()
        channels, size, _ = shape
        self.grid = size // 4
        self.width = width
        batch_norm = norm == "batch"
        self.project = nn.Linear(latent, 2 * width * self.grid**2, bias=not batch_norm)
        self.norm1 = _batch_norm(2 * width, buffers) if batch_norm else nn.Identity()
        self.double1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=not batch_norm)
        self.norm2 = _batch_norm(width, buffers) if batch_norm else nn.Identity()
        self.double2 = PatchesToImage(width, channels)

    def forward(self, z: Tensor) -> Tensor:
        h = self.project(z).view(z.shape[0], self.grid, self.grid, 2 * self.width).permute(0, 3, 1, 2)
        h = F.relu(self.norm1(h))
        h = F.relu(self.norm2(self.double1(h)), inplace=True)
        return torch.tanh(self.double2(h))

    def initialise(self, name: str, tensor: Tensor, random: torch.Generator) -> None:
        """Weights N(0, 1/fan_in), BatchNorm at the identity, biases left at 0."""
        if tensor.dim() > 1:
            # Each output pixel of a doubling layer sees every second row and column of its 4x4 kernel.
            fan_in = tensor[:, 0].numel() / 4 if name.startswith("double") else tensor[0].numel()
            tensor.normal_(0.0, fan_in**-0.5, generator=random)
        elif name.startswith("norm") and name.endswith("weight"):
            tensor.fill_(1.0)


def _batch_norm(features: int, buffers: str) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(features, track_running_stats=buffers == "mixed")
    norm.num_batches_tracked = None  # a counter would have no mean between nodes, and the momentum is fixed
    return norm


class Critic(Network):
    """Images (n, channels, size, size) to scores (n,): three halvings and a linear layer, no BatchNorm.

    spectral: divide each weight by its spectral norm, as SNGAN does.
    """

    def __init__(self, width: int, shape: tuple[int, int, int], spectral: bool) -> None:
        super().__init__()
        channels, size, _ = shape
        self.spectral = spectral
        self.halve1 = ImageToPatches(channels, width)
        self.halve2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.halve3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.score = nn.Linear(4 * width * ((size // 4 + 1) // 2) ** 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        h = F.leaky_relu(self.halve1(images, self._weight(self.halve1)), LEAK)
        for layer in (self.halve2, self.halve3):
            h = F.conv2d(h, self._weight(layer), layer.bias, layer.stride, layer.padding)
            h = F.leaky_relu(h, LEAK, inplace=True)
        h = h.permute(0, 2, 3, 1).flatten(1)
        return F.linear(h, self._weight(self.score), self.score.bias).squeeze(1)

    def initialise(self, name: str, tensor: Tensor, random: torch.Generator) -> None:
        """Weights N(0, 1/fan_in), biases left at 0."""
        if tensor.dim() > 1:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5, generator=random)

    def _weight(self, layer: ImageToPatches | nn.Conv2d | nn.Linear) -> Tensor:
        return layer.weight / spectral_norm(layer.weight) if self.spectral else layer.weight


class ImageToPatches(nn.Module):
    """conv2d(images, weight, bias, stride=2, padding=1) for a 4x4 kernel, in channels-last order."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, channels, 4, 4))
        self.bias = nn.Parameter(torch.empty(features))

    def forward(self, images: Tensor, weight: Tensor) -> Tensor:
        n, _, height, width = images.shape
        patches = F.unfold(images, 4, stride=2, padding=1).transpose(1, 2)
        h = F.linear(patches, weight.flatten(1), self.bias)
        return h.view(n, height // 2, width // 2, -1).permute(0, 3, 1, 2)


class PatchesToImage(nn.Module):
    """conv_transpose2d(h, weight, bias, stride=2, padding=1), 4x4 kernel, for h in channels-last order."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, channels, 4, 4))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, h: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return F.conv_transpose2d(h, self.weight, self.bias, stride=2, padding=1)
        size = (2 * h.shape[2], 2 * h.shape[3])
        patches = h.permute(0, 2, 3, 1).flatten(1, 2) @ self.weight.flatten(1)
        return F.fold(patches.transpose(1, 2), size, 4, stride=2, padding=1) + self.bias.view(-1, 1, 1)
