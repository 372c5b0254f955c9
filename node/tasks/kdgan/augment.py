"""Random turns, shifts and zooms of a minibatch: one affine map an image, sampled bilinearly."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, degrees: float, shift: float, zoom: float, random: torch.Generator) -> Tensor:
    """images (n, C, H, W) floats, each turned by up to ±degrees, moved by up to ±shift of its side along either
    axis and scaled by 1 ± zoom, all uniform; what comes in from outside repeats the border.

    Always takes 4 n numbers from `random`.
    """
    draw = torch.rand(len(images), 4, generator=random).mul_(2).sub_(1)
    angle = draw[:, 0] * (math.pi * degrees / 180)
    scale = 1 + draw[:, 1] * zoom
    # affine_grid's image is 2 wide; it maps places of the output to places of the input
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    rows = [
        torch.stack([cosine, -sine, draw[:, 2] * 2 * shift], 1),
        torch.stack([sine, cosine, draw[:, 3] * 2 * shift], 1),
    ]
    maps = torch.stack(rows, 1).to(images.device)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
