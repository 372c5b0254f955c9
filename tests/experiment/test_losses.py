"""The loss of a node: told at once and with its time, however the run ends, and no end of `stop.score`."""

from __future__ import annotations

import gc
import io
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gannet.experiment.progress import LiveDisplay
from gannet.experiment.runner import run_one
from gannet.experiment.sinks import ScoreGoal, Tee
from gannet.fabrics.job import Job, Outcome, Sink, lost_line
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Kill
from gannet.node.training.meter import StepStats
from gannet.scores.score_run import score_run
from gannet.scores.scorer import scorer_for
from gannet.spec.load import resolve
from gannet.spec.run_spec import RunSpec
from tests.support.interrupted import SPEC as INTERRUPTED

SPEC: dict[str, Any] = {**INTERRUPTED, "name": "losses", "checkpoint_every": None}


def spec_of(**changes: Any) -> RunSpec:
    (spec,) = resolve({**SPEC, **changes}, "losses.yaml").runs()
    return spec


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "links.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == kind]


class KillAndStop:
    """A fabric that kills node 2 at 0.2 s, and is interrupted when node 0 has made step `until`."""

    def __init__(self, until: int | None = None) -> None:
        self._until = until

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        until = self._until

        class Interrupted(Tee):
            def step(self, rank: int, stats: StepStats) -> None:
                super().step(rank, stats)
                if rank == 0 and stats.step == until:
                    raise KeyboardInterrupt

        return run_virtual(job, Interrupted(sink), [Kill(2, 0.2)])


@pytest.mark.parametrize("until", [None, 30])
def test_it_is_told_at_once_and_however_the_run_ends(tmp_path: Path, until: int | None) -> None:
    terminal = io.StringIO()
    display = LiveDisplay(Console(file=terminal, width=200))
    spec = spec_of()
    display.begin(spec, 1, 1)
    summary = run_one(spec, tmp_path / "run", KillAndStop(until), display)
    assert "\n  at 0.2 s: node 2 was lost: ended at 0.2 s\n" in terminal.getvalue()
    (line,) = events(tmp_path / "run", "node-lost")
    assert (line["t_s"], line["node"]) == (0.2, 2)
    assert summary.status == ("finished" if until is None else "stopped") and not summary.trusted
    assert summary.missing_messages > 0
    assert summary.reasons == ("node 2 was lost: ended at 0.2 s",)


def test_messages_of_nodes_that_were_not_lost_are_told_besides(tmp_path: Path) -> None:
    class Deaf(Tee):
        """What node 0 says of its third step: nothing came from node 1 either."""

        def step(self, rank: int, stats: StepStats) -> None:
            if rank == 0 and stats.step == 3:
                object.__setattr__(stats, "missing", (1,))
            super().step(rank, stats)

    summary = run_one(spec_of(), tmp_path / "run", lambda job, sink: run_virtual(job, Deaf(sink), [Kill(2, 0.2)]))
    assert summary.reasons[0] == "node 2 was lost: ended at 0.2 s"
    assert summary.reasons[1].startswith("1 messages were missing from mixes though their senders were not lost: ")
    assert "link 1 → 0 1 from step 3" in summary.reasons[1] and len(summary.reasons) == 2


def test_a_score_ends_the_run_after_a_loss_too(tmp_path: Path) -> None:
    learns = {"score": {"points": 3}, "snapshot_every": 50, "optimizer": {"learning_rate": 0.03}}
    calm = spec_of(stop={"steps": 100}, **learns)
    run_one(calm, tmp_path / "calm", run_virtual)
    first, _, later = score_run(tmp_path / "calm", calm.task, scorer_for(calm.task, calm.data, 100))
    assert (first["step"], later["step"]) == (0, 100)
    goal = (first["score"] + later["score"]) / 2
    assert later["score"] < goal < first["score"]
    spec = spec_of(stop={"steps": 400, "score": goal}, **learns)
    summary = run_one(spec, tmp_path / "lost", KillAndStop())
    assert events(tmp_path / "lost", "node-lost") and summary.status == "finished"
    assert 50 <= summary.steps < 300


def test_snapshots_that_nobody_will_complete_are_not_kept() -> None:
    goal = ScoreGoal(spec_of(stop={"steps": 400, "score": 1e-9}, score={"points": 2}))
    size = 12
    kept: list[weakref.ref[torch.Tensor]] = []

    def deposit(rank: int, step: int) -> None:
        x = torch.full((size,), 3.0)
        kept.append(weakref.ref(x))
        assert not goal.snapshot(rank, step, 0.1 * step, 0, x)

    def alive() -> int:
        gc.collect()
        return sum(ref() is not None for ref in kept)

    for step in range(5):  # node 2 hangs
        deposit(0, step)
        deposit(1, step)
    assert alive() == 10
    goal.links(lost_line(0.5, 2, "its process was killed by SIGKILL"))
    for step in range(5, 50):
        deposit(0, step)
        deposit(1, step)
        assert alive() <= 2
    assert not goal.snapshot(0, 50, 5.0, 0, torch.full((size,), torch.nan))
    assert not goal.snapshot(1, 50, 5.0, 0, torch.full((size,), 3.0))  # a model that has diverged reaches nothing
