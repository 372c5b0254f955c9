"""FashionNet: a small classifier of 28x28 grey images whose features the Fréchet distance is taken on.

Its weights ship with the package. `python -m gannet.scores.networks.train` makes them again.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

WEIGHTS = "fashionnet.safetensors"
CLASS_NAMES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip


class FashionNet(nn.Module):
    """uint8 images (n, 1, 28, 28) to `num_features` non-negative features (n, 128); `classify` gives logits.

    Taking bytes, as Inception does in FID, keeps generated and real images on one footing.
    """

    num_features = 128  # read by torchmetrics

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(128)
        self.features = nn.Linear(128 * 3 * 3, self.num_features)
        self.classes = nn.Linear(self.num_features, len(CLASS_NAMES))

    def forward(self, images: Tensor) -> Tensor:
        h = images.float() / 127.5 - 1
        h = F.max_pool2d(F.relu(self.norm1(self.conv1(h))), 2)
        h = F.max_pool2d(F.relu(self.norm2(self.conv2(h))), 2)
        h = F.max_pool2d(F.relu(self.norm3(self.conv3(h))), 2)
        return F.relu(self.features(h.flatten(1)))

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (n, 10) from what `forward` returned."""
        logits: Tensor = self.classes(features)
        return logits


def load_fashionnet(device: torch.device | str = "cpu") -> FashionNet:
    """The shipped network in evaluation mode."""
    path = files("gannet.scores.networks") / WEIGHTS
    with safe_open(str(path), framework="pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    with torch.device("meta"):
        network = FashionNet()
    network.load_state_dict(weights, strict=False, assign=True)
    return network.requires_grad_(False).eval().to(device)


def metadata() -> dict[str, Any]:
    """What the weights were trained on and how well they classify."""
    with safe_open(str(files("gannet.scores.networks") / WEIGHTS), framework="pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items()}
