"""What a run folder says of nodes that join a run under way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gannet.experiment.job import job_of
from gannet.experiment.resume import resumed_job
from gannet.experiment.runner import run_one
from gannet.fabrics.virtual.fabric import run_virtual
from tests.experiment.test_losses import events, spec_of


def test_a_scheduled_join_is_no_reason_for_distrust(tmp_path: Path) -> None:
    """What was missing from mixes before it is not counted, and the time before it is in none of its steps."""
    summary = run_one(spec_of(join_at_s={2: 0.3}), tmp_path / "run", run_virtual)
    assert summary.status == "finished" and summary.trusted and summary.reasons == ()
    assert summary.missing_messages == 0 and summary.lower_bound_s is None
    (joined,) = events(tmp_path / "run", "node-joined")
    steps = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    own = [step for step in steps if step["node"] == 2]
    assert [step["step"] for step in own] == list(range(joined["step"] + 1, 41))
    assert any(step.get("missing") == [2] for step in steps)
    spans = {rank: [s["t_s"] for s in steps if s["node"] == rank] for rank in range(3)}
    begin = {0: 0.0, 1: 0.0, 2: joined["t_s"]}
    trained_s = sum(spans[rank][-1] - begin[rank] for rank in range(3))
    assert summary.step_s.mean == pytest.approx(trained_s / len(steps), rel=0.05)


def test_a_run_that_ends_before_a_node_has_joined_says_so(tmp_path: Path) -> None:
    summary = run_one(spec_of(join_at_s={2: 500}), tmp_path / "run", run_virtual)
    assert summary.status == "finished" and not summary.trusted
    assert summary.reasons == ("node 2 had not joined when the run ended: it was to join at 500 s",)


def test_a_run_is_resumed_with_all_its_nodes(tmp_path: Path) -> None:
    """A set of checkpoints is whole only once all have joined, so who has joined is there from the beginning."""
    spec = spec_of(join_at_s={2: 0.3}, checkpoint_every=4)
    run_one(spec, tmp_path / "run", run_virtual)
    (joined,) = events(tmp_path / "run", "node-joined")
    job = resumed_job(job_of(spec), tmp_path / "run")
    assert job.resumed is not None and job.resumed.step > joined["step"]
    assert not job.join_at_s
