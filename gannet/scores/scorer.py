"""Scoring of a run: a GAN's images are compared with the data's; other tasks score themselves.

Every number is named after the network whose features it is based on: the Fréchet distance is called FID, the kernel
distance KID and the classifier score Inception score only on the Inception features, for which the names were coined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gannet.ledger.data_fingerprint import facts_of
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_split
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask, Evaluates, Evaluation
from gannet.node.tasks.config import TaskSetting
from gannet.scores.basis import scores_itself
from gannet.scores.measures import LEAST_IMAGES, Measures, classes_found, measurable
from gannet.scores.names import CUSTOMARY, MetricName
from gannet.scores.networks.networks import FeaturesMissing, feature_network
from gannet.spec.score import FeatureName, ScoreSpec

BATCH = 500
REFERENCE_IMAGES = 10_000
NOISE_SEED = 0


@dataclass(frozen=True)
class Score:
    """value: Fréchet distance to the training images, lower is better, and its name. more: the other metrics.

    class_shares: the share of each class of the data among the images, None if the feature network does not know the
    classes. classes_found: the share of classes that occur.
    """

    value: float
    name: str
    samples: int
    classes_found: float | None
    class_shares: Mapping[str, float] | None = None
    more: Mapping[str, float] = field(default_factory=dict)


class Scorer:
    """Compares images with the training images of a data set, whose features it computes once.

    samples: the number of images generated for a snapshot; scores with other numbers are not comparable. features:
    "auto" takes FashionNet for grey images and, for colour, Inception where its weights are installed, else
    EfficientNet-Lite0. metrics: in addition to the Fréchet distance; None for the usual ones that the network
    supports. Raises FeaturesMissing, with the fix, if there is no such network, metric or device.
    """

    def __init__(
        self,
        data: DataConfig,
        samples: int = 2000,
        device: torch.device | str = "cpu",
        features: FeatureName = "auto",
        metrics: Sequence[MetricName] | None = ("frechet",),
    ) -> None:
        if samples < 2:
            raise ValueError(f"samples must be at least 2, got {samples}")
        self.data = data
        self.samples = samples
        self.device = present(torch.device(device))
        self.network = feature_network(data, features, self.device)
        images = load_split(data, limit=REFERENCE_IMAGES).images
        chosen = measurable(self.network, metrics, len(images))
        self._real = len(images)
        self._left_out = [name for name in CUSTOMARY if metrics is None and LEAST_IMAGES.get(name, 0) > self._real]
        real = torch.cat(list(self._features(images)))
        self._measures = Measures(self.network, real, chosen)

    @property
    def name(self) -> str:
        return self.network.score_name

    @property
    def features(self) -> str:
        return self.network.name

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """The metrics measured, the Fréchet distance first."""
        return self._measures.metrics

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Why `samples` or the data are too few for the metrics, one sentence each."""
        found = self._measures.shortfalls(self.samples)
        if not self._left_out:
            return found
        least = max(LEAST_IMAGES[name] for name in self._left_out)
        names = ", ".join(self._left_out)
        return (*found, f"{names}: left out, since they need at least {least} real images, not {self._real}")

    def judge(self, sampler: AnyTask, x: Tensor) -> tuple[Score, Evaluation]:
        """Score the images that the generator in x generates."""
        images = sampler.generate(x, self.samples, NOISE_SEED)
        score = self.score(images)
        return score, Evaluation(score.value, dict(score.more), images)

    def score(self, images: Tensor) -> Score:
        """images: (n, C, H, W), floats in [-1, 1] or bytes, n of at least 2 (6 for the neighbours' metrics)."""
        if not torch.isfinite(images).all():
            raise ValueError("the images are not finite: this model has diverged")
        features = torch.cat(list(self._features(images)))
        found = self._measures.of(features)
        shares = self._measures.class_shares(features)
        value = found.pop("frechet")
        return Score(
            value,
            self.name,
            len(images),
            classes_found(shares),
            shares,
            {str(name): one for name, one in found.items()},
        )

    @torch.no_grad()
    def _features(self, images: Tensor) -> Iterator[Tensor]:
        for part in torch.split(images, BATCH):
            yield self.network.extract(to_bytes(part).to(self.device))


class OwnScorer:
    """Lets a task score itself (see `Evaluates`)."""

    samples = 0
    features = ""
    shortfalls: tuple[str, ...] = ()

    def __init__(self, name: str, data: DataConfig, device: torch.device | str = "cpu") -> None:
        self.name, self.data, self.device = name, data, torch.device(device)

    def judge(self, sampler: AnyTask, x: Tensor) -> tuple[Score, Evaluation]:
        assert isinstance(sampler, Evaluates)
        told = sampler.evaluate(x)
        return Score(told.score, self.name, 0, None, more=told.more), told


AnyScorer = Scorer | OwnScorer


def scorer_for(
    task: TaskSetting,
    data: DataConfig,
    samples: int = 2000,
    device: torch.device | str = "cpu",
    features: FeatureName = "auto",
    metrics: Sequence[MetricName] | None = ("frechet",),
) -> AnyScorer:
    """The scorer of a run: the task itself if it is able to score, else a Scorer of its images."""
    sampler = build_sampler(task, data, present(torch.device(device)))
    if scores_itself(task, sampler):
        assert isinstance(sampler, Evaluates)
        return OwnScorer(sampler.score_name, data, device)
    return Scorer(data, samples, device, features, metrics)


def check_scoring(task: TaskSetting, data: DataConfig, wish: ScoreSpec) -> None:
    """Raises ValueError or FileNotFoundError, before training, if such a run could not be scored as requested.

    Reads what scoring reads: the data must be on this machine, and enough for the metrics; a task that scores itself
    scores its start.
    """
    check_wish(task, data, wish)
    device = torch.device(wish.device)
    sampler = build_sampler(task, data, device)
    if scores_itself(task, sampler):
        assert isinstance(sampler, Evaluates)
        sampler.evaluate(sampler.initial())
    else:
        network = feature_network(data, wish.features, device)
        measurable(network, wish.metrics, min(facts_of(data)["images"], REFERENCE_IMAGES))


def check_wish(task: TaskSetting, data: DataConfig, wish: ScoreSpec) -> None:
    """Raises ValueError if this machine and its feature networks cannot score such a task as requested."""
    device = present(torch.device(wish.device))
    if scores_itself(task, build_sampler(task, data)):
        own = ScoreSpec()  # a recorded spec has every field: only what is set otherwise has been asked for
        asked = [name for name in ("samples", "metrics", "features") if getattr(wish, name) != getattr(own, name)]
        if asked:
            raise ValueError(f"task {task.name} scores itself: leave out score.{' and score.'.join(asked)}")
    else:
        measurable(feature_network(data, wish.features, device), wish.metrics)


def present(device: torch.device) -> torch.device:
    """The device, if this machine has it. Raises FeaturesMissing."""
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            has = f"has {count} (cuda:0 to cuda:{count - 1})" if count else "has none that PyTorch can use"
            raise FeaturesMissing(f"device {device}: this machine {has}; choose another, or cpu")
    return device


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to uint8 0 to 255; bytes are returned unchanged."""
    return images if images.dtype == torch.uint8 else images.add(1).mul(127.5).round().clamp(0, 255).byte()
