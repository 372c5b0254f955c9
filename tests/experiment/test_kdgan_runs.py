"""KDGAN trained by algorithms over links, scored by itself: a task like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.node.config import NodeConfig
from gannet.node.data.datasets import load_shard
from gannet.node.tasks import build_task
from gannet.node.training.optimizers import OAdam
from gannet.spec.load import SpecError, load_spec
from tests.support.runs import play, virtual_job

TASK = {"name": "kdgan", "hidden": 8, "filters": 2, "features": 6, "pretrain_steps": 4, "labels": 80, "dropout": 0.2}
DATA = {"name": "fashion-mnist-mini", "sharding": "dirichlet", "alpha": 0.5}


def test_a_server_that_averages_every_second_move_is_a_plain_loop() -> None:
    """Four nodes on the virtual fabric against four tasks in a loop, through pretraining and two rounds."""
    job = virtual_job(
        {"name": "cp-oadam", "collective": "server", "every": 2}, world=4, steps=10, task=TASK, data=DATA, seed=2
    )
    memory, outcome = play(job)
    assert outcome.status == "finished"
    config: NodeConfig = job.config
    tasks = [
        build_task(config.task, load_shard(config.data, rank, 4, 2), rank, 4, 2, config.batch) for rank in range(4)
    ]
    x = [task.initial() for task in tasks]
    optimizers = [OAdam(task, config.optimizer, task.initial()) for task in tasks]
    for step in range(1, 11):
        x = [o.step(y, task.gradient(y)) for o, y, task in zip(optimizers, x, tasks, strict=True)]
        if step % 2 == 0:
            x = [torch.stack(x).mean(0)] * 4
        torch.testing.assert_close(torch.from_numpy(memory.states(step)), torch.stack(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", [{"name": "dp-oadam"}, {"name": "choco"}, {"name": "local", "method": "adam"}])
def test_other_algorithms_train_it(algorithm: dict[str, Any]) -> None:
    codec = "qsgd-4bit" if algorithm["name"] == "choco" else "fp32"
    memory, outcome = play(virtual_job(algorithm, steps=7, task=TASK, data=DATA, codec=codec))
    assert outcome.status == "finished"
    assert {name for stats in memory.steps[0] for name in stats.loss} == {"classifier", "teacher", "discriminator"}


def test_a_comparison_scores_test_error_and_accuracies(tmp_path: Path) -> None:
    spec = {"name": "k", "nodes": 2, "fabric": "virtual", "pace_ms": 10, "task": TASK, "stop": {"steps": 6},
            "snapshot_every": 3, "score": {"points": 2}, "algorithm": {"name": "dp-oadam"},
            "links": "demo-10mbit",
            "arms": {"kdgan": {}, "classifier": {"task": {"method": "classifier"}}}}  # fmt: skip
    (tmp_path / "k.yaml").write_text(yaml.safe_dump(spec))
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "k.yaml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    lines = {
        arm: [json.loads(line) for line in (tmp_path / "out" / arm / "seed-1" / "scores.jsonl").open()]
        for arm in ("kdgan", "classifier")
    }
    for line in lines["kdgan"]:
        assert line["score_name"] == "test error, %"
        assert line["score"] == pytest.approx(100 - line["accuracy"])
        assert 0 <= line["teacher_accuracy"] <= 100
    assert "teacher_accuracy" not in lines["classifier"][0]
    assert lines["classifier"][-1]["bytes"] < 0.75 * lines["kdgan"][-1]["bytes"]  # who does not play does not travel


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.kind=tagging", "set data.compose, for example to 3"),
        ("data.compose=3", "for task kdgan with kind: tagging; leave it out"),
        ("task.labels=0", "task.labels: must be at least 1"),
        ("task.width=3", "task: unknown width; allowed: name, method"),
        ("algorithm={name: md-gan}", "md-gan takes a GAN's players apart, the task is kdgan"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_with_the_fix(override: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec("kdgan", [override])
    assert message in str(caught.value)


def test_the_shipped_specs_are_whole() -> None:
    assert list(load_spec("kdgan").arms) == ["kdgan", "distn", "mimic", "nagan", "classifier"]
    profiles = {name: arm.links_over_time[0].profile.name for name, arm in load_spec("kdgan-links").arms.items()}
    assert set(profiles.values()) == {"3g-fast", "wan-us"}
