"""Every mistake is reported before anything starts; what fails later fails alone, and resume makes the rest."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.checks import as_lines, mistakes_in, show_data
from gannet.experiment.compare import execute
from gannet.experiment.resume import resume_plan
from gannet.fabrics.job import Job, Outcome, Sink
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.writer import write_yaml
from gannet.node.config import NodeConfig
from gannet.node.training.worker import Worker
from gannet.spec.load import SpecError, resolve
from gannet.spec.run_spec import ComparisonSpec

SPEC: dict[str, Any] = {
    "name": "quick",
    "fabric": "virtual",
    "nodes": 6,
    "seeds": [1, 2, 3],
    "task": {"width": 4},
    "batch": 2,
    "pace_ms": 10,
    "algorithm": {"name": "local"},
    "stop": {"steps": 2},
    "score": None,
    "arms": {"one": {}, "other": {}},
}
SKEWED = {"sharding": "dirichlet", "alpha": 0.02}  # seeds 1 and 2 leave a node without data, 3 does not


def comparison(**changes: Any) -> ComparisonSpec:
    return resolve({**SPEC, **changes}, "quick.yaml")


def told(comparison: ComparisonSpec) -> list[str]:
    return as_lines(mistakes_in(comparison.runs()), comparison.runs()).splitlines()


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def states(folder: Path) -> dict[str, str]:
    found = folder.glob("*/seed-*/summary.json")
    return {str(p.parent.relative_to(folder)): json.loads(p.read_text())["status"] for p in sorted(found)}


def test_every_mistake_of_every_arm_and_seed_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    spec = tmp_path / "quick.yaml"
    arms = {"one": {}, "other": {"task": {"classes": 5, "architecture": "dcgan"}}}
    spec.write_text(json.dumps({**SPEC, "data": SKEWED, "arms": arms}))
    result = CliRunner().invoke(app, ["compare", str(spec), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "with seed 1: dirichlet sharding of 5000 samples leaves 1 of 6 nodes without data" in result.output
    assert "with seed 2: dirichlet" in result.output and "min_per_node" in result.output
    assert "in arm other, seed 3: task.classes is 5, but the data has labels from 0 to 9" in result.output
    assert "Traceback" not in result.output and not list(tmp_path.glob("out/*"))


def test_missing_data_and_scores_that_cannot_be_had_are_told_together(tmp_path: Path) -> None:
    arms = {
        "one": {"data": {"name": "mnist", "root": str(tmp_path / "absent.npz")}},
        "other": {"score": {"metrics": ["inception-score"], "features": "inception"}},
    }
    data, score = told(comparison(arms=arms))
    assert data.startswith("in arm one: data.root: no file") and score.startswith("in arm other: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": 4, "task": {"name": "kdgan", "labels": 3}}, "3 labelled images are 0 on node 3"),
        ({"nodes": 4, "task": {"name": "kdgan", "labels": 9000}}, "2250 on node 0, whose shard has 1250"),
        ({"nodes": 4, "task": {"name": "kdgan", "classes": 4}}, "task.classes is 4, but the data has labels from 0"),
    ],
)
def test_labels_that_a_task_cannot_use_are_a_mistake_of_the_spec(changes: dict[str, Any], said: str) -> None:
    (line,) = told(comparison(**changes))
    assert said in line


def test_a_seed_that_no_node_takes_is_refused() -> None:
    with pytest.raises(SpecError, match="from 0 to 2147483647"):
        comparison(seeds=[1, 2**31])


class Unlucky:
    """The virtual fabric, where one seed of one arm ends in an error of any kind."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        if job.config.arm == "one" and job.config.seed == 2:
            raise self._error
        return run_virtual(job, sink)


@pytest.mark.parametrize("error", [ValueError("no luck"), KeyError("luck"), RuntimeError("no luck")])
def test_what_fails_later_fails_alone_and_can_be_made_again(tmp_path: Path, error: Exception) -> None:
    spec, folder = comparison(), tmp_path / "out"
    assert not execute(spec, folder, quiet(), {"virtual": Unlucky(error)})
    assert list(states(folder).values()).count("finished") == 5 and states(folder)["one/seed-2"] == "failed"
    summary = json.loads((folder / "one" / "seed-2" / "summary.json").read_text())
    assert "luck" in summary["reason"] and not summary["trusted"]
    assert type(error).__name__ in (folder / "one" / "seed-2" / "error.txt").read_text()
    assert (folder / "report.html").exists()
    result = CliRunner().invoke(app, ["resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert set(states(folder).values()) == {"finished"} and len(states(folder)) == 6
    assert (folder / "set-aside" / "one" / "seed-2-1" / "error.txt").exists()


def test_resume_makes_what_can_be_made_of_a_folder_that_an_older_version_gave_up(tmp_path: Path) -> None:
    """It had made seed 3, then died of an empty shard with an empty steps.jsonl in its folder."""
    three, both = comparison(seeds=[3], data=SKEWED), comparison(seeds=[3, 1, 5], data=SKEWED)
    execute(three, tmp_path, quiet())
    write_yaml(tmp_path / "spec.yaml", both.whole())
    (tmp_path / "one" / "seed-1" / "snapshots").mkdir(parents=True)
    (tmp_path / "one" / "seed-1" / "steps.jsonl").touch()
    plan = resume_plan(tmp_path)
    assert {(spec.arm, spec.seed) for spec in plan.left} == {(arm, n) for arm in ("one", "other") for n in (1, 5)}
    lucky = {key for key in states_after(tmp_path, plan) if key[1] == "finished"}
    assert {name for name, _ in lucky} == {f"{arm}/seed-{n}" for arm in ("one", "other") for n in (3, 5)}
    reason = json.loads((tmp_path / "one" / "seed-1" / "summary.json").read_text())["reason"]
    assert "without data" in reason


def states_after(folder: Path, plan: Any) -> set[tuple[str, str]]:
    assert not execute(plan.comparison, plan.folder, quiet(), plan=plan)
    return set(states(folder).items())


@pytest.mark.parametrize("data", [{"sharding": "class", "classes_per_node": 3}, SKEWED | {"min_per_node": 30}])
def test_who_has_which_labels_is_shown_before_training_and_kept(tmp_path: Path, data: dict[str, Any]) -> None:
    """Against what the nodes themselves hold, built as for a run."""
    spec = comparison(seeds=[3], data=data, arms={"one": {}})
    console = quiet()
    show_data(spec.runs(), console)
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()[2:]]
    execute(spec, tmp_path, quiet())
    kept = json.loads((tmp_path / "one" / "seed-3" / "shards.json").read_text())["labels_by_node"]
    (run,) = spec.runs()
    for rank in range(6):
        config = NodeConfig(run="r", **run.training())
        task = Worker(config, rank, 6)._build_task()
        images = next(value for value in vars(task).values() if getattr(value, "ndim", 0) == 4)
        assert rows[rank][:2] == [str(rank), f"{len(images):,}"]
        counts = [0 if cell == "·" else int(cell.replace(",", "")) for cell in rows[rank][2:]]
        assert counts == [kept[rank].get(str(label), 0) for label in range(10)] and sum(counts) == len(images)
        if "min_per_node" in data:
            assert len(images) >= 30


def test_the_server_of_md_gan_has_no_labels() -> None:
    spec = comparison(seeds=[1], algorithm={"name": "md-gan"}, data={"sharding": "class", "classes_per_node": 2})
    console = quiet()
    show_data(spec.runs(), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[2].split() == ["0", "0", *["·"] * 10]
