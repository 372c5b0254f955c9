"""The scores that torchmetrics computes, on features that are already known: Fréchet, kernel, classifier score.

Its metrics come with their own networks; given one that returns its input, they take features directly. They are
imported where they are used: they bring torchvision's models, and with them three times torch's own import time.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

KID_SUBSETS, KID_SUBSET_SIZE = 10, 1000
SPLITS, SPLIT_SIZE = 10, 5000
DRAW_SEED = 0


class Given(nn.Module):
    """A feature network that returns its input, so that a metric takes features."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetToData:
    """|μ − μ'|² + tr(Σ + Σ' − 2 (Σ Σ')^½) between the data's features, given once, and any others (Heusel et al.)."""

    def __init__(self, real: Tensor) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._metric = FrechetInceptionDistance(Given(real.shape[1]), reset_real_features=False).to(real.device)
        self._metric.update(real.double(), real=True)

    def __call__(self, generated: Tensor) -> float:
        self._metric.reset()  # forgets the last images; the data's statistics stay
        self._metric.update(generated.double(), real=False)
        return float(self._metric.compute())


def subset_size(real: int, generated: int) -> int:
    """The number of points of each set that a kernel distance compares at a time."""
    return min(KID_SUBSET_SIZE, real, generated)


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    """The squared maximum mean discrepancy, unbiased, with kernel (x·y/d + 1)³ (Bińkowski et al. 2018).

    The mean over KID_SUBSETS draws of `subset_size` points of each set, always the same draws. Double precision.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = subset_size(len(real), len(generated))
    metric = _quiet(KernelInceptionDistance, Given(real.shape[1]), subsets=KID_SUBSETS, subset_size=size)
    metric = metric.to(real.device)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    with torch.random.fork_rng(devices=[]):  # it draws from torch's own stream
        torch.manual_seed(DRAW_SEED)
        return float(metric.compute()[0])


def classifier_score(logits: Tensor) -> float:
    """exp of the mean over images of KL(p(class | image) ‖ p(class)), 1 to the number of classes (Salimans et al.).

    logits: (n, classes). The mean over 10 splits, as in the paper, if each has 5,000 images; else over all images at
    once, because a small split cannot show all classes.
    """
    from torchmetrics.image.inception import InceptionScore

    splits = SPLITS if len(logits) >= SPLITS * SPLIT_SIZE else 1
    metric = _quiet(InceptionScore, Given(logits.shape[1]), splits=splits).to(logits.device)
    metric.update(logits.double())
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "std")  # for a single split; only the mean is used
        torch.manual_seed(DRAW_SEED)
        return float(metric.compute()[0])


def _quiet(metric: type, *arguments: object, **settings: object):  # type: ignore[no-untyped-def]
    """The metric without its warning that it keeps all features in memory: here they are kept anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric .* will save all extracted features in buffer")
        return metric(*arguments, **settings)
