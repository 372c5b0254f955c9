"""A score that cannot be had is refused before training; a fault in scoring costs no more than its own score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.compare import score_all
from gannet.ledger.files import validate
from gannet.ledger.reader import read_comparison
from gannet.ledger.records import Summary
from gannet.node.data.config import DataConfig
from gannet.node.tasks.config import TaskConfig
from gannet.report import sentences, write_report
from gannet.report.results import measure
from gannet.scores.measures import Measures, measurable
from gannet.scores.networks.networks import FeaturesMissing, feature_network
from gannet.scores.scorer import Scorer, check_scoring
from gannet.spec.run_spec import RunSpec
from gannet.spec.score import ScoreSpec
from tests.report.ledger_factory import RunPlan, write_comparison
from tests.scores.test_scoring import TASK, write_finished

OWN = """
import torch
from gannet import Evaluation, Task

class Own(Task):
    uses_data = False
    def networks(self):
        return {"generator": torch.nn.Linear(1, 1), "discriminator": torch.nn.Linear(1, 1)}
    def minibatch(self):
        return None
    def losses(self, batch):
        return {name: network(self.noise(1)).sum() for name, network in self.nets().items()}
    def nets(self):
        return {"generator": self.generator, "discriminator": self.discriminator}
    def measure(self):
        raise KeyError("no such image")
"""


def npz(path: Path, count: int) -> DataConfig:
    """A data set of `count` grey images of noise."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return DataConfig(name="mnist", root=str(path))


def test_metrics_that_too_few_images_do_not_define_are_refused_or_left_out(tmp_path: Path) -> None:
    few = npz(tmp_path / "few.npz", 5)
    with pytest.raises(FeaturesMissing, match="precision, recall need at least 6 real images, and the data have 5"):
        check_scoring(TASK, few, ScoreSpec(metrics=("precision", "recall", "kid")))
    check_scoring(TASK, few, ScoreSpec())
    scorer = Scorer(few, samples=100, metrics=None)
    assert scorer.metrics == ("frechet", "kid")
    *_, told = scorer.shortfalls
    assert told == "precision, recall, coverage: left out, since they need at least 6 real images, not 5"
    with pytest.raises(FeaturesMissing, match="1 image is not enough"):
        check_scoring(TASK, npz(tmp_path / "one.npz", 1), ScoreSpec())
    with pytest.raises(FileNotFoundError, match="no file"):
        check_scoring(TASK, DataConfig(name="mnist", root=str(tmp_path / "gone.npz")), ScoreSpec())


@pytest.mark.parametrize("least", [2, 6])
def test_the_least_numbers_of_images_are_those_that_suffice(least: int) -> None:
    network = feature_network(DataConfig(), "fashionnet", torch.device("cpu"))
    features = torch.randn(least, network.size, generator=torch.Generator().manual_seed(3))
    chosen = measurable(network, None, least)
    assert ("precision" in chosen) == (least == 6)
    found = Measures(network, features, chosen).of(features.flip(0) + 0.1)
    assert all(np.isfinite(value) for value in found.values())


def test_a_comparison_on_few_images_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = npz(tmp_path / "few.npz", 5)
    spec = {
        "fabric": "virtual", "nodes": 1, "pace_ms": 20, "stop": {"steps": 2}, "batch": 2,
        "data": data.model_dump(mode="json"), "algorithm": {"name": "local"}, "score": {"metrics": ["coverage"]},
    }  # fmt: skip
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(spec))
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["run", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "coverage need at least 6 real images, and the data have 5" in done.output
    assert not (tmp_path / "out").exists()


def test_an_own_measure_that_fails_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    spec = {
        "fabric": "virtual", "nodes": 1, "pace_ms": 20, "stop": {"steps": 2}, "algorithm": {"name": "local"},
        "task": {"name": "python", "file": "own.py"},
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec))
    command = ["run", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "out")]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, command)
    assert done.exit_code == 2 and "own.py:16" in done.output and "no such image" in done.output
    assert not (tmp_path / "out").exists()


def finished(root: Path, arm: str, **changes: Any) -> tuple[RunSpec, Summary, Path]:
    """An arm's finished run of two snapshots: step 0 and step 10."""
    data = npz(root.parent / "data.npz", 60)
    settings = {"algorithm": {"name": "local"}, "stop": {"steps": 10}, "nodes": 1, "arm": arm, "task": TASK}
    score = {"samples": 100, "metrics": ["frechet"]}
    spec = RunSpec.model_validate({**settings, "data": data, "score": score, **changes})
    place = root / arm / "seed-1"
    place.mkdir(parents=True)
    write_finished(place, spec)
    summary = {"arm": arm, "seed": 1, "status": "finished", "steps": 10, "trusted": True}
    (place / "summary.json").write_text(json.dumps(summary))
    return spec, validate(Summary, summary, place, None), place


def test_a_run_that_cannot_be_scored_costs_no_other_its_score(tmp_path: Path) -> None:
    """One run's data are gone, one's last snapshot is torn, one is of another task: the fourth is scored."""
    root = tmp_path / "all"
    gone = DataConfig(name="mnist", root=str(tmp_path / "gone.npz"))
    runs = [finished(root, "gone", data=gone), *(finished(root, arm) for arm in ("torn", "other", "good"))]
    (root / "torn/seed-1/snapshots/step-000010/node-0.safetensors").write_bytes(b"torn")
    specs = [spec for spec, _, _ in runs]
    specs[2] = specs[2].model_copy(update={"task": TaskConfig(width=5)})
    console = Console(width=300, record=True)
    faults = score_all(root, specs, [summary for _, summary, _ in runs], console, [place for *_, place in runs])
    assert faults == 3
    said = console.export_text()
    assert "gone, seed 1, could not be scored: data.root: no file" in said
    assert "this task has" in said and "torn, seed 1, could not be scored" in said
    found = measure(read_comparison(root))
    assert [arm.name for arm in found.arms if arm.final_score is not None] == ["good"]
    assert write_report(found.comparison).exists()
    notes = " ".join(sentences.notes(found))
    assert "gone, seed 1, could not be scored: data.root: no file" in notes and "diverged" not in notes


def test_a_snapshot_that_cannot_be_scored_costs_no_other_its_score(tmp_path: Path) -> None:
    spec, summary, place = finished(tmp_path / "all", "torn")
    (place / "snapshots/step-000000/node-0.safetensors").write_bytes(b"torn")
    assert score_all(place, [spec], [summary], Console(width=300), [place]) == 1
    (line,) = [json.loads(text) for text in (place / "scores.jsonl").read_text().splitlines()]
    told = json.loads((place / "summary.json").read_text())
    assert line["step"] == 10 and told["final_score"] == line["score"]
    assert told["score_fault"].startswith("1 of its snapshots: ") and "step-000000" in told["score_fault"]


def test_a_fault_in_scoring_again_leaves_the_scores_as_they_were(tmp_path: Path) -> None:
    spec, summary, place = finished(tmp_path / "all", "run")
    assert score_all(place, [spec], [summary], Console(width=300), [place]) == 0
    before = (place / "scores.jsonl").read_text()
    for snapshot in (place / "snapshots").iterdir():
        (snapshot / "node-0.safetensors").write_bytes(b"torn")
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["score", str(place), "--samples", "200"])
    assert done.exit_code == 1 and "could not be scored" in done.output
    assert (place / "scores.jsonl").read_text() == before
    told = json.loads((place / "summary.json").read_text())
    assert told["final_score"] == json.loads(before.splitlines()[-1])["score"]


def test_a_run_whose_folder_is_malformed_costs_no_other_its_place_in_the_report(tmp_path: Path) -> None:
    plans = [RunPlan(name, name.upper(), 1, images=False) for name in ("a", "b", "c")]
    folder = write_comparison(tmp_path / "c", plans)
    (folder / "b/seed-1/steps.jsonl").write_text("{broken\n")
    found = measure(read_comparison(folder))
    assert [arm.name for arm in found.arms if arm.final_score is not None] == ["a", "c"]
    (note,) = [note for note in sentences.notes(found) if "b, seed 1, failed" in note]
    assert "steps.jsonl line 1: not JSON" in note
    assert write_report(found.comparison).exists()
