"""A dry run says what the run does: it refuses what a run refuses, and nothing else; its bytes are those sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.job import job_of
from gannet.experiment.task_cost import cost_of
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.spec.load import load_spec
from gannet.spec.run_spec import RunSpec
from tests.support.runs import Memory

BASE: dict[str, Any] = {
    "name": "dry", "fabric": "virtual", "pace_ms": 20, "nodes": 2, "algorithm": {"name": "dp-oadam"},
    "topology": "ring", "stop": {"steps": 4}, "batch": 4,
}  # fmt: skip
KDGAN = {"name": "kdgan", "hidden": 8, "filters": 2, "features": 8, "pretrain_steps": 2}
GAME = {"name": "game", "dimension": 16}
OWN = """
import torch
from gannet import Evaluation, Task

class Own(Task):
    def networks(self):
        self.net = torch.nn.Linear(784, 1)
        return {"generator": self.net}
    def minibatch(self):
        if self.context.shard is not None and len(self.context.shard) < 1000:
            raise ValueError("this task wants a thousand images")
        return super().minibatch()
    def losses(self, batch):
        return {"generator": self.net(batch.images.flatten(1)).mean()}
    MEASURE
"""
MEASURE = "def measure(self): return Evaluation(1.0, {})"


def command(tmp_path: Path, what: str, *more: str, **changes: Any) -> tuple[int, str]:
    file = tmp_path / "dry.yaml"
    file.write_text(yaml.safe_dump({**BASE, **changes}))
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, [what, str(file), *more])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {**KDGAN, "labels": 1000}, "score": None},
        {"task": {**KDGAN, "kind": "tagging"}, "data": {"compose": 3}, "score": None},
        {"task": {"name": "python", "file": "own.py"}, "score": {"points": 1}},
        {"task": GAME, "players": {"generator": {"algorithm": {"name": "local"}}}},
    ],
    ids=["labels", "tagging", "own", "players"],
)
def test_a_dry_run_accepts_what_runs(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("MEASURE", MEASURE))
    status, output = command(tmp_path, "run", "--dry-run", **changes)
    assert status == 0 and "ends after 4 steps" in output
    status, output = command(tmp_path, "run", "--out", str(tmp_path / "out"), **changes)
    assert status == 0, output


@pytest.mark.parametrize("name", ["kdgan", "kdgan-links"])
def test_a_dry_run_of_a_shipped_spec_holds_for_any_number_of_nodes(name: str) -> None:
    arm = next(iter(load_spec(name).arms))
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["run", name, "--arm", arm, "--set", "nodes=2", "--dry-run"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": {"name": "python", "file": "own.py"}}, "has no measure() to score by"),
        ({"task": GAME, "score": {"samples": 200}}, "task game scores itself: leave out score.samples"),
        ({"task": GAME, "algorithm": {"name": "dp-oadam"}, "links": "unknown"}, "no profile named"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("MEASURE", ""))
    for more in (["--dry-run"], ["--out", str(tmp_path / "out")]):
        status, output = command(tmp_path, "compare", *more, **changes)
        assert status == 2 and expected in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("steps", [1, 7, 12])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": {"name": "dp-oadam", "every": 5}},
        {"algorithm": {"name": "cp-oadam", "collective": "server", "every": 4}},
        {"algorithm": {"name": "diloco", "every": 50}},
        {"algorithm": {"name": "local"}},
        {"players": {"generator": {"algorithm": {"name": "cp-oadam", "every": 3}}}},
    ],
    ids=str,
)
def test_the_bytes_of_a_dry_run_are_those_that_a_run_sends(changes: dict[str, Any], steps: int) -> None:
    spec = RunSpec.model_validate({**BASE, "task": GAME, "nodes": 4, "stop": {"steps": steps}, **changes})
    memory = Memory()
    run_virtual(job_of(spec), memory)
    sent = sum(stats.codec_bytes for each in memory.steps.values() for stats in each)
    assert cost_of(spec).sent_in(steps) * spec.nodes == pytest.approx(sent)
