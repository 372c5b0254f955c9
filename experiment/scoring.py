"""Scores a run's snapshots after training: Fréchet distance, classes found, consensus distance, image grids.

The Fréchet distance is torchmetrics', on features of a network that fits the data, and is named after that
network. It is called FID only on the Inception features that made the name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from experiment.features.networks import FeatureName, FeaturesMissing, feature_network
from node.data.datasets import load_split
from node.tasks import build_sampler
from node.tasks.base import Evaluates, Evaluation, Task
from node.tasks.config import DataConfig, TaskConfig, TaskSetting

__all__ = ["AnyScorer", "FeaturesMissing", "OwnScorer", "Score", "Scorer", "score_run", "scorer_for"]

BATCH = 500
REFERENCE_IMAGES = 10_000
GRID_COLUMNS, GRID_ROWS = 8, 8
GAP_GREY = 128
NOISE_SEED = 0
FOUND = 0.1
"""A class counts as found when the images hold at least this part of an equal share of it."""


@dataclass(frozen=True)
class Score:
    """value: Fréchet distance to the training images, lower is better. classes_found: share of the data set's
    classes among the images, None where the feature network does not know these classes."""

    value: float
    name: str
    samples: int
    classes_found: float | None


class Scorer:
    """Compares images with the training images of a data set, whose statistics it computes once.

    samples: how many images `score_run` generates for a snapshot; distances of other sample sizes do not
    compare. features: "auto" takes FashionNet for grey images and, for colour, Inception where its weights
    are installed, else EfficientNet-Lite0. Raises FeaturesMissing, with the fix, when there is none.
    """

    def __init__(
        self,
        data: DataConfig,
        samples: int = 2000,
        device: torch.device | str = "cpu",
        features: FeatureName = "auto",
    ) -> None:
        if samples < 2:
            raise ValueError(f"samples must be at least 2, got {samples}")
        self.data = data
        self.samples = samples
        self.device = torch.device(device)
        self.network = feature_network(data, features, self.device)
        self._distance = FrechetInceptionDistance(_Given(self.network.size), reset_real_features=False)
        for part in self._features(load_split(data, limit=REFERENCE_IMAGES).images):
            self._distance.update(part.double(), real=True)

    @property
    def name(self) -> str:
        return self.network.score_name

    def judge(self, sampler: Task, x: Tensor) -> tuple[Score, Evaluation]:
        """Score the images that the generator in x makes."""
        images = sampler.generate(x, self.samples, NOISE_SEED)
        score = self.score(images)
        return score, Evaluation(score.value, {}, images)

    def score(self, images: Tensor) -> Score:
        """images: (n, C, H, W), floats in [-1, 1] or bytes, n of at least 2."""
        if not torch.isfinite(images).all():
            raise ValueError("the images are not finite: this model has diverged")
        self._distance.reset()  # forgets the last images; the data set's statistics stay
        features = torch.cat(list(self._features(images)))
        self._distance.update(features.double(), real=False)
        return Score(self._distance.compute().item(), self.name, len(images), self._classes_found(features))

    def _classes_found(self, features: Tensor) -> float | None:
        if self.network.classify is None:
            return None
        classes = self.network.classify(features.to(self.device)).argmax(1).cpu()
        counts = classes.bincount(minlength=self.network.classes)
        return (counts >= FOUND * len(features) / self.network.classes).double().mean().item()

    @torch.no_grad()
    def _features(self, images: Tensor) -> Iterator[Tensor]:
        for part in torch.split(images, BATCH):
            yield self.network.extract(to_bytes(part).to(self.device)).cpu()


class OwnScorer:
    """Lets a task score itself (see `Evaluates`)."""

    samples = 0

    def __init__(self, name: str, data: DataConfig, device: torch.device | str = "cpu") -> None:
        self.name, self.data, self.device = name, data, torch.device(device)

    def judge(self, sampler: Task, x: Tensor) -> tuple[Score, Evaluation]:
        """What the task says of x."""
        assert isinstance(sampler, Evaluates)
        told = sampler.evaluate(x)
        return Score(told.score, self.name, 0, None), told


AnyScorer = Scorer | OwnScorer


def scorer_for(
    task: TaskSetting,
    data: DataConfig,
    samples: int = 2000,
    device: torch.device | str = "cpu",
    features: FeatureName = "auto",
) -> AnyScorer:
    """Who scores a run of that task: the task itself where it can, else a Scorer of its images."""
    if not isinstance(task, TaskConfig) and isinstance(sampler := build_sampler(task, data, device), Evaluates):
        return OwnScorer(sampler.score_name, data, device)
    return Scorer(data, samples, device, features)


class _Given(nn.Module):
    """Lets the metric work on features computed already."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def score_run(
    run_folder: Path,
    task: TaskSetting,
    scorer: AnyScorer,
    points: int = 12,
    progress: Callable[[int, int], None] | None = None,
    algorithm: str = "",
) -> list[dict[str, Any]]:
    """Score at most `points` snapshots of a finished run, evenly spaced in time, first and last included.

    Scored is the mean of the nodes' generators, x_mean = (1/M) sum_i x_i; each player's consensus distance
    (1/M) sum_i |x_i - x_mean|^2 goes with it; the x_i are those of `comparable`, which must know the algorithm.
    Writes scores.jsonl and images/step-*.png into the run's folder and returns the lines; progress is told
    (done, total). A model that is not finite has the score None.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    sampler = build_sampler(task, scorer.data, scorer.device)
    found = [Snapshot.read_header(folder) for folder in sorted(run_folder.glob("snapshots/step-*"))]
    if not found:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: nothing to score; did the run stop early?")
    chosen = spread(found, points)
    images = run_folder / "images"
    images.mkdir(exist_ok=True)
    lines = []
    with (run_folder / "scores.jsonl").open("w") as file:
        for done, snapshot in enumerate(chosen, start=1):
            line = _score_snapshot(snapshot, sampler, scorer, images / f"{snapshot.folder.name}.png", algorithm)
            file.write(json.dumps(line) + "\n")
            lines.append(line)
            if progress is not None:
                progress(done, len(chosen))
    return lines


def _score_snapshot(
    snapshot: Snapshot, sampler: Task, scorer: AnyScorer, image: Path, algorithm: str
) -> dict[str, Any]:
    states = snapshot.nodes()
    sizes = {len(x) for x in states.values()}
    if sizes != {sampler.size}:
        raise ValueError(f"{snapshot.folder}: {max(sizes)} values, but this task has {sampler.size}")
    x = comparable(states, sampler.players, algorithm)
    mean = x.mean(0)
    line: dict[str, Any] = {
        "step": snapshot.step,
        "t_s": snapshot.t_s,
        "bytes": snapshot.bytes,
        "of": "average",
        "nodes": len(x),
        "score_name": scorer.name,
        "samples": scorer.samples,
        "score": None,
        "classes_found": None,
    }
    for player, where in sampler.players.items():
        line[f"consensus_{player}"] = consensus_distance(x[:, where])
    if mean.isfinite().all():
        score, told = scorer.judge(sampler, mean)
        line |= {"score": score.value, "classes_found": score.classes_found, **told.more}
        if told.images is not None:
            Image.fromarray(grid(told.images)).save(image)
    return line


@dataclass(frozen=True)
class Snapshot:
    """One step's snapshots of all nodes: t_s is their mean time, bytes what all had sent by then."""

    folder: Path
    step: int
    t_s: float
    bytes: int

    @classmethod
    def read_header(cls, folder: Path) -> Snapshot:
        headers = []
        for path in sorted(folder.glob("node-*.safetensors")):
            with safe_open(path, framework="pt") as file:
                headers.append(file.metadata())
        if not headers:
            raise FileNotFoundError(f"{folder}: no node-*.safetensors inside")
        return cls(
            folder=folder,
            step=int(headers[0]["step"]),
            t_s=sum(float(header["t_s"]) for header in headers) / len(headers),
            bytes=sum(int(header["bytes"]) for header in headers),
        )

    def nodes(self) -> dict[int, Tensor]:
        """The parameters of all nodes, (size,), by rank."""
        paths = self.folder.glob("node-*.safetensors")
        return {int(path.stem.removeprefix("node-")): load_file(path)["x"] for path in paths}


def comparable(states: Mapping[int, Tensor], players: Mapping[str, slice], algorithm: str) -> Tensor:
    """The nodes' states by rank as rows (M, size) that can be averaged and held against each other.

    MD-GAN has one generator, with its running statistics, on rank 0: every row has that, NaN where rank 0 is missing.
    Rank 0 has no discriminator: its row has the workers' mean.
    """
    ranks = sorted(states)
    x = torch.stack([states[rank] for rank in ranks])
    if algorithm == "md-gan":
        critic = players["discriminator"]
        served = x[0].clone() if ranks[0] == 0 else torch.full_like(x[0], torch.nan)
        if ranks[0] == 0 and len(ranks) > 1:
            x[0, critic] = x[1:, critic].mean(0)
        x[:, : critic.start], x[:, critic.stop :] = served[: critic.start], served[critic.stop :]
    return x


def spread(snapshots: list[Snapshot], points: int) -> list[Snapshot]:
    """At most `points` of them, nearest to evenly spaced times from the first to the last."""
    in_time = sorted(snapshots, key=lambda snapshot: snapshot.t_s)
    if len(in_time) <= points:
        return in_time
    times = np.array([snapshot.t_s for snapshot in in_time])
    wanted = np.linspace(times[0], times[-1], points) if points > 1 else times[-1:]
    return [in_time[i] for i in sorted({int(np.abs(times - t_s).argmin()) for t_s in wanted})]


def consensus_distance(x: Tensor) -> float | None:
    """(1/M) sum_i |x_i - x_mean|^2 for x of shape (M, n); None if not finite, as JSON knows no infinity."""
    distance = (x - x.mean(0)).square().sum(1).mean().item()
    return distance if math.isfinite(distance) else None


def to_bytes(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to uint8 0 to 255; bytes stay as they are."""
    return images if images.dtype == torch.uint8 else images.add(1).mul(127.5).round().clamp(0, 255).byte()


def grid(images: Tensor) -> NDArray[np.uint8]:
    """The first GRID_ROWS x GRID_COLUMNS images side by side, one pixel apart: (height, width, 3)."""
    tiles = F.pad(to_bytes(images[: GRID_ROWS * GRID_COLUMNS]), (0, 1, 0, 1), value=GAP_GREY)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, -len(tiles) % GRID_COLUMNS), value=GAP_GREY)
    rows = [torch.cat(list(row), dim=-1) for row in torch.split(tiles.expand(-1, 3, -1, -1), GRID_COLUMNS)]
    return torch.cat(rows, dim=-2).permute(1, 2, 0).numpy()
