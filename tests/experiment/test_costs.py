"""What a step cost beside the least that it could: on the virtual clock, with one node slower than the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gannet.experiment.runner import run_one
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.records import Summary
from gannet.spec.load import load_spec

SMALL = ("fabric=virtual", "score=null", "task.width=4", "task.latent=4", "batch=2", "stop.seconds=6")
EVERY = 2
OFTEN = tuple(f"arms.{arm}.algorithm.every={EVERY}" for arm in ("gossip", "all-reduce"))


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Summary]:
    """Of the shipped spec with a straggler, whose pace is five times the others'."""
    folder: Path = tmp_path_factory.mktemp("stragglers")
    arms = load_spec("stragglers", (*SMALL, *OFTEN)).arms
    return {name: run_one(spec, folder / name, run_virtual) for name, spec in arms.items()}


def test_no_step_beats_its_bound_and_a_straggler_sets_the_pace_of_those_that_go_in_step(
    summaries: dict[str, Summary],
) -> None:
    for arm, summary in summaries.items():
        assert summary.status == "finished" and summary.trusted, summary.reasons
        bound = summary.lower_bound_s
        # Behind the last exchange nobody waits for the straggler any more.
        assert summary.step_s.mean * (1 + EVERY / summary.steps) >= bound.total_s
        together = arm != "asynchronous"
        assert bound.compute_s == pytest.approx(0.250 if together else 0.0625, rel=0.01)
    assert summaries["asynchronous"].steps >= 4 * summaries["gossip"].steps


def test_exchanges_behind_gradients_are_those_of_the_method_that_waits_for_nobody(
    summaries: dict[str, Summary],
) -> None:
    assert summaries["asynchronous"].wait_s == 0 and summaries["asynchronous"].hidden_s > 0
    assert summaries["all-reduce"].hidden_s == 0
