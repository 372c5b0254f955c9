"""What a controller writes down of a run, and what another makes of it; no process, no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from safetensors.torch import save_file
from torch import zeros

from gannet.experiment.exploded import Exploded
from gannet.experiment.job import job_of as job_of_spec
from gannet.experiment.runner import run_one
from gannet.experiment.sinks import ScoreGoal
from gannet.experiment.take_up import DIARY, look_again, taken_up
from gannet.fabrics.job import (
    ISLANDS,
    LEFT_EARLY,
    NODE_LOST,
    Job,
    LinkChange,
    Outcome,
    islands_line,
    lost_line,
    returned_line,
)
from gannet.fabrics.recovery.diary import Diary, read_past
from gannet.fabrics.recovery.known import Known
from gannet.fabrics.recovery.past import Recovery
from gannet.ledger.writer import Ledger
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.wire import control_pb2
from tests.support.interrupted import Crash, Doom, comparison, lines

CLUSTER = "this cluster"
JOB = job_of_spec(comparison().runs()[0])


def job_of(path: Path, **changes: Any) -> Job:
    return replace(JOB, recovery=Recovery(path, 60.0, CLUSTER), **changes)


def ready(rank: int) -> control_pb2.Report:
    told = control_pb2.Ready(mesh_address=f"10.1.0.{rank + 2}:7700", parameters=12, name=f"rank-{rank}.1")
    return control_pb2.Report(ready=told, number=1)


def written(path: Path, world: int = 3) -> Diary:
    """The diary of a run whose training has begun."""
    diary = Diary(path)
    for rank in range(world):
        diary.joined(rank, f"verifier {rank}")
        diary.report(rank, ready(rank))
    outcome = Outcome("failed", setup_s=2.5, environment={"engine": "netem"})
    diary.began(job_of(path), outcome)
    return diary


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / DIARY
    diary = written(path)
    diary.report(1, control_pb2.Report(waiting=control_pb2.Waiting(source=2, round=3), number=9))
    finished = control_pb2.Report(finished=control_pb2.Finished(steps=30, codec_bytes=1 << 40), number=11)
    diary.report(2, finished)
    diary.stopping()
    diary.last_step(30)
    past = read_past(path)
    assert past is not None
    assert past.known[1] == Known("verifier 1", 12, "rank-1.1", 9) and set(past.known) == {0, 1, 2}
    assert past.finished == {2} and past.reports[-1] == (2, finished)
    assert (past.stopping, past.last_step, past.cluster) == (True, 30, CLUSTER)
    assert past.facts == {"environment": {"engine": "netem"}, "setup_s": 2.5}
    assert past.now_s() >= 0.0
    past.lost[0] = "killed"
    assert set(past.known) == {1, 2}
    diary.close()


def test_another_process_of_a_node_has_its_own_key_and_counts_from_one(tmp_path: Path) -> None:
    path = tmp_path / DIARY
    diary = written(path)
    diary.report(1, control_pb2.Report(warmed=control_pb2.Warmed(), number=40))
    diary.joined(1, "another verifier")
    diary.report(1, ready(1))
    past = read_past(path)
    assert past is not None and past.known[1] == Known("another verifier", 12, "rank-1.1", 1)


def test_a_line_that_was_cut_short_is_dropped_and_the_next_process_writes_on(tmp_path: Path) -> None:
    path = tmp_path / DIARY
    written(path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"last_st')
    past = read_past(path)
    assert past is not None and past.last_step is None
    Diary(path, taken_up=True).last_step(7)
    past = read_past(path)
    assert past is not None and past.last_step == 7


def test_a_run_that_begins_again_has_nothing_of_the_former_ones_diary(tmp_path: Path) -> None:
    path = tmp_path / DIARY
    written(path)
    Diary(path).joined(0, "a verifier")
    assert read_past(path) is None


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"rank": 1, "report": {"ready": 3}}'])
def test_what_is_no_diary_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / DIARY
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=DIARY):
        read_past(path)


def test_a_run_that_has_not_begun_is_not_taken_up(tmp_path: Path) -> None:
    Diary(tmp_path / DIARY).joined(0, "a verifier")
    assert read_past(tmp_path / DIARY) is None
    with pytest.raises(ValueError, match="training had not begun"):
        taken_up(job_of(tmp_path / DIARY), tmp_path)


def line_of(event: dict[str, Any]) -> str:
    return json.dumps(event) + "\n"


def left(run: Path, *events: dict[str, Any]) -> Path:
    """The folder of a run that was left behind."""
    run.mkdir(parents=True, exist_ok=True)
    written(run / DIARY)
    (run / "links.jsonl").write_text("".join(map(line_of, events)), encoding="utf-8")
    (run / "certificate.json").write_text('{"edges": [], "reasons": ["a reason"]}', encoding="utf-8")
    steps = [{"step": 1, "t_s": 0.5, "loss": {}, "compute_s": 0, "wait_s": 0, "other_s": 0, "node": 2}]
    (run / "steps.jsonl").write_text("".join(map(line_of, steps)) + '{"st', encoding="utf-8")
    return run


def test_the_folder_tells_steps_losses_and_when_the_controller_was_last_there(tmp_path: Path) -> None:
    run = left(tmp_path, lost_line(3.0, 0, "killed"), {"t_s": 4.5, "node": 1})
    job = taken_up(job_of(run / DIARY), run)
    assert job.recovery is not None and job.config.run == JOB.config.run
    past = job.recovery.past
    assert past is not None
    assert past.lost == {0: "killed"} and past.away_s == 4.5 and past.steps == {2: 1} and past.t_s == {2: 0.5}
    assert past.certificate.reasons == ["a reason"]


@pytest.mark.parametrize(
    ("events", "changes", "why"),
    [
        ([lost_line(3.0, 0, "killed")], {"return_after_s": 1.0}, "was to come back"),
        ([lost_line(3.0, 0, "not finite")], {"on_not_finite": "reset"}, "was to come back"),
        ([islands_line(3.0, [[0, 1], [2]], "1>2")], {}, "trained without each other"),
        ([{"t_s": 3.0, "event": LEFT_EARLY, "detail": ""}], {}, "in the middle of an exchange"),
    ],
)
def test_what_nodes_had_yet_to_agree_on_is_not_taken_up(
    tmp_path: Path, events: list[dict[str, Any]], changes: dict[str, Any], why: str
) -> None:
    run = left(tmp_path, *events)
    with pytest.raises(ValueError, match=why):
        taken_up(job_of(run / DIARY, **changes), run)


def test_a_step_shows_that_the_controller_was_there(tmp_path: Path) -> None:
    run = left(tmp_path, {"t_s": 0.2, "node": 1})
    job = taken_up(job_of(run / DIARY), run)
    assert job.recovery is not None and job.recovery.past is not None and job.recovery.past.away_s == 0.5


def test_what_is_over_is_no_hindrance(tmp_path: Path) -> None:
    events = [lost_line(3.0, 0, "killed"), returned_line(4.0, 0, 1, 9), islands_line(5.0, [[0], [1, 2]], "")]
    run = left(tmp_path, *events, {**islands_line(6.0, [[0, 1, 2]], ""), "event": ISLANDS})
    job = taken_up(job_of(run / DIARY, return_after_s=1.0), run)
    assert job.recovery is not None and job.recovery.past is not None and job.recovery.past.lost == {}


def test_a_ledger_that_is_taken_up_has_the_sums_of_one_that_was_not(tmp_path: Path) -> None:
    (spec,) = comparison().runs()
    with pytest.raises(Crash):
        run_one(spec, tmp_path / "run", Doom(23))
    before = lines(tmp_path / "run")
    with (tmp_path / "run" / "steps.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"node":1,')
    ledger = Ledger(tmp_path / "run", spec, taken_up=True)
    ledger.close()
    assert lines(tmp_path / "run") == before
    assert {rank: node.count for rank, node in ledger.stats.items()} == {
        rank: sum(line["node"] == rank for line in before) for rank in range(3)
    }
    sent = sum(line["codec_bytes"] for line in before)
    assert ledger.total("codec", {}) == sent
    assert ledger.total("codec", {(rank, "codec"): 7 for rank in range(3)}) == 21  # of the whole run, not the rest


class Judge:
    """A goal that is reached once both nodes that are left have deposited a snapshot of step 20."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []
        self.awaited = {0, 1, 2}

    def links(self, line: dict[str, Any]) -> None:
        if line.get("event") == NODE_LOST:
            self.awaited.discard(line["node"])

    def snapshot(self, rank: int, step: int, *more: Any) -> bool:
        self.parts.append((rank, step))
        return step == 20 and all((each, 20) in self.parts for each in self.awaited)


@pytest.mark.parametrize("recorded", [[(0, 20), (1, 20)], [(0, 20)]])
def test_a_goal_sees_who_was_lost_and_the_last_snapshots(tmp_path: Path, recorded: list[tuple[int, int]]) -> None:
    run = left(tmp_path, lost_line(3.0, 2, "killed"))
    early = [(rank, step) for step in (0, 5, 10, 15) for rank in range(2)]
    for rank, step in [*early, *recorded]:
        path = run / "snapshots" / f"step-{step:06d}" / f"node-{rank}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": zeros(12)}, path)
    job = taken_up(job_of(run / DIARY), run)
    exploded, judge = Exploded(comparison().runs()[0], job), Judge()
    look_again(exploded, cast(ScoreGoal, judge), job, run)
    assert job.recovery is not None and job.recovery.past is not None
    assert job.recovery.past.stopping == (len(recorded) == 2)
    assert judge.parts == [*early[4:], *recorded] and exploded.reasons == []


@pytest.mark.parametrize(
    ("t_s", "links", "later"), [(0.0, "a", [5.0, 9.0]), (5.0, "b", [9.0]), (8.9, "b", [9.0]), (100.0, "c", [])]
)
def test_the_schedule_at_a_moment(t_s: float, links: str, later: list[float]) -> None:
    def named(name: str) -> LinkState:
        return LinkState(profile=LinkProfile(name=name))

    changes = (LinkChange(5.0, named("b")), LinkChange(9.0, named("c")))
    job = replace(JOB, links=named("a"), changes=changes)
    now, rest = job.links_at(t_s)
    assert now == named(links) and [change.at_s for change in rest] == later
