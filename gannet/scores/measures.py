"""All scores of one set of images at once, from its features and those of the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gannet.scores.extract import DRAW_SEED, FrechetToData, classifier_score, kernel_distance
from gannet.scores.manifold import LEAST_POINTS, overlap
from gannet.scores.names import CUSTOMARY, MetricName
from gannet.scores.networks.networks import FeatureNetwork, FeaturesMissing
from gannet.scores.sample_size import shortfalls

AMONG_NEIGHBOURS: tuple[MetricName, ...] = ("precision", "recall", "density", "coverage")
LEAST_IMAGES: dict[MetricName, int] = {"frechet": 2, "kid": 2, **dict.fromkeys(AMONG_NEIGHBOURS, LEAST_POINTS)}
"""The numbers of real images that metrics need, as far as they are defined by fewer than a metric says much about."""

FOUND = 0.1
"""A class counts as found if the images contain at least this fraction of an equal share of it."""


def measurable(
    network: FeatureNetwork, wanted: Sequence[MetricName] | None, real: int | None = None
) -> tuple[MetricName, ...]:
    """The metrics to measure: those wanted, or, with None, the usual ones that network and data support.

    `real`: the number of real images; None: not known. The Fréchet distance, which decides, is always first. Raises
    FeaturesMissing for a metric that is not available.
    """
    if real is not None and real < LEAST_IMAGES["frechet"]:
        raise FeaturesMissing(f"score: {real} image is not enough to compare with: set score: null, or use more data")
    few = [name for name, least in LEAST_IMAGES.items() if real is not None and real < least]
    if wanted is None:
        known = (name for name in CUSTOMARY if name != "inception-score" or network.classify is not None)
        return tuple(name for name in known if name not in few)
    if lacking := [name for name in wanted if name in few]:
        least = max(LEAST_IMAGES[name] for name in lacking)
        raise FeaturesMissing(
            f"metrics: {', '.join(lacking)} need at least {least} real images, and the data have {real}: leave them "
            "out, or use more data"
        )
    if "inception-score" in wanted and network.classify is None:
        raise FeaturesMissing(
            f"metrics: inception-score needs a classifier of these images, and {network.name} does not "
            "classify them: leave it out, or use features: inception"
        )
    return ("frechet", *(name for name in wanted if name != "frechet"))


class Measures:
    """Scores against the data's features `real`, (n, size); everything is computed on their device."""

    def __init__(self, network: FeatureNetwork, real: Tensor, metrics: tuple[MetricName, ...]) -> None:
        self.network = network
        self.metrics = metrics
        self._frechet = FrechetToData(real)
        self._count = len(real)
        if metrics != ("frechet",):  # shuffled, so that the first rows are always a fair sample
            order = torch.randperm(len(real), generator=torch.Generator().manual_seed(DRAW_SEED))
            self._real = real[order.to(real.device)]

    def of(self, features: Tensor) -> dict[str, float]:
        """The scores by name, in the order of `metrics`."""
        found: dict[str, float] = {"frechet": self._frechet(features)}
        if "kid" in self.metrics:
            found["kid"] = kernel_distance(self._real, features)
        if "inception-score" in self.metrics and self.network.classify is not None:
            found["inception-score"] = classifier_score(self.network.classify(features))
        if set(AMONG_NEIGHBOURS) & set(self.metrics):
            # Equal numbers of both kinds: these four depend on the density of the points.
            count = min(len(self._real), len(features))
            among = overlap(self._real[:count], features[:count])
            found |= {
                "precision": among.precision,
                "recall": among.recall,
                "density": among.density,
                "coverage": among.coverage,
            }
        return {name: found[name] for name in self.metrics}

    def class_shares(self, features: Tensor) -> dict[str, float] | None:
        """The share of each class of the data among the images; None if the network does not know the classes."""
        names = self.network.class_names
        if self.network.classify is None or not names:
            return None
        counts = self.network.classify(features).argmax(1).bincount(minlength=len(names))
        return dict(zip(names, (counts.double() / len(features)).tolist(), strict=True))

    def shortfalls(self, generated: int) -> tuple[str, ...]:
        """Why these scores are doubtful with this number of generated images, one sentence each."""
        network = self.network
        return shortfalls(network.name, network.size, network.classes, self.metrics, self._count, generated)


def classes_found(shares: dict[str, float] | None) -> float | None:
    """The share of classes of which the images contain at least FOUND of an equal share."""
    if shares is None:
        return None
    return sum(share * len(shares) >= FOUND for share in shares.values()) / len(shares)
