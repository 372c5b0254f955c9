"""A run resumes with the data, the code and the versions that it began with, or says what has changed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.compare import execute
from gannet.experiment.resume import resume_plan
from gannet.experiment.runner import begin_comparison, run_one
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger import origin
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.ledger.reader import read_run
from gannet.node.plugins import fingerprint
from gannet.node.training.checkpoint import Checkpoint
from gannet.spec.load import SpecError, resolve
from gannet.spec.run_spec import ComparisonSpec
from tests.support.interrupted import Crash, Doom

SPEC: dict[str, Any] = {
    "name": "quick",
    "fabric": "virtual",
    "nodes": 2,
    "task": {"width": 4},
    "batch": 2,
    "pace_ms": 10,
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 12},
    "snapshot_every": 4,
    "checkpoint_every": 4,
    "score": None,
}


def comparison(folder: Path, **changes: Any) -> ComparisonSpec:
    for number in range(8):
        (folder / "images" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(folder / "images" / "a" / f"{number}.png")
    data = {"name": "image-folder", "root": str(folder / "images"), "image_size": 16}
    return resolve({**SPEC, "data": data, **changes}, str(folder / "quick.yaml"))


def interrupted(spec: ComparisonSpec, out: Path) -> Path:
    """The first run crashed after step 6, with a checkpoint of step 4; others have not begun."""
    begin_comparison(spec, out)
    first = spec.runs()[0]
    with pytest.raises(Crash):
        run_one(first, out / first.arm / f"seed-{first.seed}", Doom(6))
    return out / first.arm / f"seed-{first.seed}"


def add_images(folder: Path) -> None:
    for number in range(4):
        Image.new("RGB", (16, 16), (0, 50 * number, 0)).save(folder / "images" / "a" / f"new-{number}.png")


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["resume", *arguments])
    return result.exit_code, " ".join(result.output.split())


def test_images_added_since_are_refused_by_name_and_the_folder_is_left_alone(tmp_path: Path) -> None:
    run = interrupted(comparison(tmp_path), tmp_path / "out")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    add_images(tmp_path)
    status, output = said(str(tmp_path / "out"))
    assert status == 2 and "data: 8 images, SHA-256" in output and "12 images, SHA-256" in output
    assert "--allow-changes" in output and "Traceback" not in output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(ValueError, match=r"data: 8 images"):
        run_one(comparison(tmp_path).runs()[0], run, run_virtual, resume=True)
    for path in (tmp_path / "images" / "a").glob("new-*"):
        path.unlink()
    status, output = said(str(tmp_path / "out"))
    assert status == 0 and read_run(run).trusted, output


def test_allowed_changes_mark_the_run_in_every_place(tmp_path: Path) -> None:
    run = interrupted(comparison(tmp_path), tmp_path / "out")
    add_images(tmp_path)
    status, _ = said(str(tmp_path / "out"), "--allow-changes")
    found = read_run(run)
    (reason,) = found.distrust
    assert status == 0 and reason.startswith("resumed after step 4, not as it began: data: 8 images, SHA-256")
    (line,) = (json.loads(text) for text in (run / "resumed.jsonl").read_text().splitlines())
    assert len(line["changes"]) == 1
    assert "not as it began: data: 8 images" in " ".join((tmp_path / "out" / "report.html").read_text().split())


def test_a_run_that_had_not_begun_has_the_data_of_those_that_finished(tmp_path: Path) -> None:
    spec = comparison(tmp_path, arms={"one": {}, "other": {"data": {"sharding": "iid"}}, "third": {}})
    begin_comparison(spec, tmp_path / "out")
    run_one(spec.runs()[0], tmp_path / "out" / "one" / "seed-1", run_virtual)
    add_images(tmp_path)
    status, output = said(str(tmp_path / "out"))
    assert status == 2 and "gannet: data: 8 images" in output
    assert not (tmp_path / "out" / "other").exists()
    status, _ = said(str(tmp_path / "out"), "--allow-changes")
    (reason,) = read_run(tmp_path / "out" / "other" / "seed-1").distrust
    assert status == 0 and reason.startswith("not as the runs before: data: 8 images")


def test_versions_and_the_processor_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupted(comparison(tmp_path), tmp_path / "out")
    monkeypatch.setattr(origin, "gannet_version", lambda: "9.9.9")
    monkeypatch.setattr(origin, "processor", lambda: "Another processor")
    status, output = said(str(run))
    assert status == 2 and "9.9.9 now" in output and "processor: " in output and "Another processor" in output


def test_a_checkpoint_says_what_it_is_of(tmp_path: Path) -> None:
    run = interrupted(comparison(tmp_path), tmp_path / "out")
    path = CheckpointFolder(run, 2).path(4, 1)
    owner = Checkpoint.unpack(path.read_bytes(), str(path)).owner
    recorded = json.loads((run / "environment.json").read_text())  # written before training
    assert owner.origin == recorded["origin"]
    assert recorded["data"]["sha256"][:16] in owner.origin["data"]
    versions = {"gannet", "torch", "numpy", "processor", "data", "pillow", "torchvision"}
    assert versions | {"start_from"} == set(owner.origin)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch": 3}, "batch is not as it began"),
        ({"optimizer": {"learning_rate": 0.1}}, "optimizer.learning_rate is"),
    ],
)
def test_a_setting_that_differs_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    run = interrupted(comparison(tmp_path), tmp_path / "out")
    recorded = yaml.safe_load((run / "spec.yaml").read_text())
    for field, value in changes.items():
        recorded[field] = recorded[field] | value if isinstance(value, dict) else value
    (run / "spec.yaml").write_text(yaml.safe_dump(recorded))
    status, output = said(str(run))
    assert status == 2 and f"of a run with other settings: {named}" in output


def test_an_own_tasks_text_is_that_of_the_beginning(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "examples" / "my_task.py").read_text()
    (tmp_path / "mine.py").write_text(text)
    whole = {name: value for name, value in SPEC.items() if name != "task"}
    spec = resolve({**whole, "task": {"name": "python", "file": "mine.py"}}, str(tmp_path / "quick.yaml"))
    run = interrupted(spec, tmp_path / "out")
    (run / "mine.py").write_text(text + "\n# better\n")
    status, output = said(str(run))
    assert status == 2 and "mine.py: edited since the run began, without effect" in output
    (run / "mine.py").write_text(text)
    recorded = yaml.safe_load((run / "spec.yaml").read_text())
    recorded["task"] |= {"source": text + "\n# better\n", "sha256": fingerprint(text + "\n# better\n")}
    (run / "spec.yaml").write_text(yaml.safe_dump(recorded))
    status, output = said(str(run))
    assert status == 2 and "task.sha256, task.source are not as it began" in output


def test_data_changed_before_the_plan_is_carried_out_is_noticed(tmp_path: Path) -> None:
    interrupted(comparison(tmp_path), tmp_path / "out")
    plan = resume_plan(tmp_path / "out")
    add_images(tmp_path)
    with pytest.raises(SpecError, match="12 images"):
        execute(plan.comparison, plan.folder, Console(file=io.StringIO()), plan=plan)


def test_no_run_is_scored_against_other_data_than_it_was_trained_on(tmp_path: Path) -> None:
    def write(images: int) -> None:
        values = np.random.default_rng(1).integers(0, 256, (images, 28, 28), np.uint8)
        labels = np.arange(images) % 10
        np.savez(
            tmp_path / "set.npz", train_images=values, train_labels=labels, test_images=values, test_labels=labels
        )

    write(120)
    changes = {
        "data": {"name": "mnist", "root": str(tmp_path / "set.npz")},
        "score": {"samples": 100, "points": 1, "metrics": []},
        "stop": {"steps": 2},
        "arms": {"one": {}},
    }
    out = tmp_path / "out"
    assert execute(resolve({**SPEC, **changes}, "quick.yaml"), out, Console(file=io.StringIO()))
    before = (out / "one" / "seed-1" / "scores.jsonl").read_bytes()
    write(130)
    result = CliRunner().invoke(app, ["score", str(out)])
    text = " ".join(result.output.split())
    assert result.exit_code == 1 and "data: 120 images, SHA-256" in text and "130 images" in text
    assert (out / "one" / "seed-1" / "scores.jsonl").read_bytes() == before
