"""Finite numbers that cannot be right make a run untrusted; those that can be right do not."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.experiment.exploded import Exploded
from gannet.experiment.job import job_of
from gannet.experiment.runner import run_one
from gannet.fabrics.job import Job, Outcome, Sink
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.records import Summary
from gannet.node.methods.formulas import longest_adam_step
from gannet.node.training.meter import StepStats
from gannet.spec.load import resolve
from gannet.spec.run_spec import RunSpec
from tests.support.adversary import LIES, adversary

RATE, BETA1, BETA2 = 0.05, 0.5, 0.9


def spec(algorithm: str = "dp-oadam", **fields: Any) -> RunSpec:
    optimizer = {"learning_rate": RATE, "beta1": BETA1, "beta2": BETA2}
    whole = {"fabric": "virtual", "pace_ms": 10, "task": {"name": "minty"}, "score": None, "nodes": 8,
             "topology": "torus", "stop": {"steps": 40}, "snapshot_every": 10, "optimizer": optimizer,
             "algorithm": {"name": algorithm}}  # fmt: skip
    return resolve({**whole, **fields}, "a spec").arms["run"]


def adam_steps(gradients: np.ndarray, beta1: float, beta2: float) -> np.ndarray:
    """Adam's steps for a coordinate, in learning rates."""
    m = v = 0.0
    steps = []
    for t, g in enumerate(gradients, start=1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        steps.append(m / (1 - beta1**t) / np.sqrt(v / (1 - beta2**t)) if v else 0.0)
    return np.array(steps)


betas = st.sampled_from([(0.5, 0.9), (0.0, 0.9), (0.9, 0.999), (0.0, 0.0), (0.8, 0.65)])


@given(betas, st.lists(st.floats(-1e6, 1e6).filter(lambda g: g == 0 or abs(g) > 1e-3), min_size=1, max_size=60))
def test_no_gradients_make_a_longer_step(beta: tuple[float, float], gradients: list[float]) -> None:
    longest = longest_adam_step(*beta)
    assert longest is not None
    assert np.abs(adam_steps(np.array(gradients), *beta)).max() <= longest * (1 + 1e-9)


@pytest.mark.parametrize("beta", [(0.5, 0.9), (0.9, 0.999), (0.8, 0.65)])
def test_the_worst_gradients_come_near_it(beta: tuple[float, float]) -> None:
    """g_k in the ratio of the moments' weights, with which Cauchy and Schwarz's two sides are equal; after many steps
    the first moment's correction, which the bound leaves out, is 1 and not 1 − β1.
    """
    worst = (beta[0] / beta[1]) ** np.arange(400, -1, -1.0)
    gradients = np.concatenate([np.full(4000, 1e-9), worst])
    longest = longest_adam_step(*beta)
    assert longest is not None
    assert np.abs(adam_steps(gradients, *beta)).max() > 0.85 * (1 - beta[0]) * longest


def test_where_the_first_moment_outlasts_the_second_there_is_no_bound() -> None:
    assert longest_adam_step(0.9, 0.5) is None
    gradients = np.array([1e6, *[1e-9] * 60])
    assert np.abs(adam_steps(gradients, 0.9, 0.5)).max() > 1e3


def watched(algorithm: str, **fields: Any) -> Exploded:
    one = spec(algorithm, **fields)
    watch = Exploded(one, job_of(one))
    watch.snapshot(0, 0, 0.0, 0, torch.full((8,), 4.0))
    return watch


def test_a_value_that_the_steps_explain_is_right_and_one_beyond_is_not() -> None:
    """Ten times 4 + 3 · 0.05 · 1/√(0.1 · (1 − 0.25/0.9)) · 100, worked out by hand."""
    for factor, wrong in ((0.99, False), (1.01, True)):
        watch = watched("dp-oadam")
        value = 10 * (4 + 3 * 0.05 * 3.720 * 100) * factor
        x = torch.zeros(8)
        x[5] = -value
        watch.snapshot(3, 100, 1.0, 0, x)
        assert bool(watch.reasons) == wrong
        if wrong:
            assert "the discriminator's parameters at node 3" in watch.reasons[0]
            assert "by step 100, from 4 at the start" in watch.reasons[0]


@pytest.mark.parametrize("algorithm", ["dposg", "choco", "local"])
def test_where_steps_have_no_bound_it_is_where_float32_has_lost_the_start(algorithm: str) -> None:
    for value, wrong in ((2.0**24 * 4 * 0.99, False), (2.0**24 * 4 * 1.01, True), (inf, True), (nan, True)):
        watch = watched(algorithm)
        watch.snapshot(1, 10, 1.0, 0, torch.tensor([value, *[0.0] * 7]))
        assert bool(watch.reasons) == wrong


def test_a_loss_that_is_not_finite_is_named_once_for_each_node() -> None:
    watch = watched("dp-oadam")
    for step, loss in ((1, 1e30), (2, inf), (3, nan)):
        watch.step(2, StepStats(step, 0.1 * step, {"generator": loss, "discriminator": -1.0}))
    assert watch.reasons == ["the loss of node 2 was not finite from step 2 on: generator inf"]


def trained(folder: Path, lie: str, **fields: Any) -> Summary:
    def fabric(job: Job, sink: Sink) -> Outcome:
        return run_virtual(job, sink, [adversary(5, LIES[lie])] if lie else [])

    return run_one(spec(**fields), folder, fabric)


@pytest.mark.parametrize("algorithm", ["dp-oadam", "dposg", "cp-oadam"])
def test_a_run_that_one_node_took_to_1e30_is_not_trusted(tmp_path: Path, algorithm: str) -> None:
    spoiled = trained(tmp_path / "mean", "1e30", algorithm=algorithm)
    assert spoiled.status == "finished" and not spoiled.trusted
    assert any("had grown to" in reason for reason in spoiled.reasons)
    saved = trained(tmp_path / "trimmed", "1e30", algorithm=algorithm, mixing="trimmed-mean")
    assert saved.status == "finished" and saved.trusted and not saved.reasons
    assert saved.mixing == "trimmed-mean (byzantine 1)" and spoiled.mixing is None
    honest = trained(tmp_path / "honest", "", algorithm=algorithm)
    assert honest.trusted and not honest.reasons
