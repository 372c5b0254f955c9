"""A small self-attention GAN: the residual networks with an attention block and spectral norms in both players.

Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks" (ICML 2019). Attention sits where
features are 32×32, as in the paper for 128 pixels; on smaller images, where they are half the image's size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gannet.node.tasks.gan.architectures import resnet
from gannet.node.tasks.gan.architectures.layers import Conv

ATTENTION_PIXELS = 32
REDUCTION = 8  # C̄ = C / 8


class Attention(nn.Module):
    """y_j = x_j + γ W_v Σ_i β_ji W_h x_i, β_j· = softmax_i((W_f x_i)ᵀ W_g x_j) over all pixels; γ is 0 at first."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(1, features // REDUCTION)
        self.f = Conv(features, inner, 1, spectral=True, bias=False)
        self.g = Conv(features, inner, 1, spectral=True, bias=False)
        self.h = Conv(features, inner, 1, spectral=True, bias=False)
        self.v = Conv(inner, features, 1, spectral=True, bias=False)
        self.gamma = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        keys, queries, values = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))  # (n, C̄, pixels)
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=2)  # row j: over the pixels that j attends to
        seen = (values @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        attended: Tensor = self.v(seen)
        return x + self.gamma * attended


def attention_at(pixels: int, size: int, features: int) -> list[nn.Module]:
    """The attention block, where features are `pixels` a side if that is its place in a GAN of images of `size`."""
    return [Attention(features)] if pixels == min(ATTENTION_PIXELS, size // 2) else []


class Generator(resnet.Generator):
    """resnet.Generator with attention."""

    spectral = True

    def after(self, pixels: int, size: int, features: int) -> list[nn.Module]:
        """See `attention_at`."""
        return attention_at(pixels, size, features)


class Critic(resnet.Critic):
    """resnet.Critic with attention."""

    def after(self, pixels: int, size: int, features: int) -> list[nn.Module]:
        """See `attention_at`."""
        return attention_at(pixels, size, features)
