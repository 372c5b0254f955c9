"""A run of real processes, in the nodes' own network: it is logged live, and neither waits for a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.support.gannet import gannet
from tests.trackers.test_trackers import assert_same, events, of_tensorboard, of_wandb, truth

pytestmark = pytest.mark.real("runs")


def test_all_trackers_have_the_figures_of_a_run_on_real_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # which the sandbox has no network for: it must not be tried
    ran = gannet(
        tmp_path, ["run", "--log", "tensorboard,wandb,mlflow"], score={"samples": 100, "points": 3, "metrics": []}
    )
    assert ran.status == 0, ran.output
    logs, expected = tmp_path / "out" / "logs", truth(ran.run())
    assert len(expected["loss/generator"]) == 6 and len(expected["score"]) == 3
    assert_same(of_tensorboard(events(logs / "tensorboard" / "run" / "seed-1")), expected)
    curves, _ = of_wandb(logs / "wandb")["run/seed-1"]
    expected_curves = {name: values for name, values in expected.items() if name != "t_s"}
    assert_same({name: values for name, values in curves.items() if name != "t_s"}, expected_curves)
    client = MlflowClient(tracking_uri=f"sqlite:///{logs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quick")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    names = list(run.data.metrics)
    found = {name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)} for name in names}
    assert_same(found, expected)
