"""`gannet resume` on the virtual fabric: the ledger of a run that was interrupted is that of one that was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.job import job_of
from gannet.experiment.resume import resume_plan, resumed_job
from gannet.experiment.runner import begin_comparison, run_one
from gannet.experiment.sinks import Tee
from gannet.fabrics.job import Job, Outcome, Resumed, Sink
from gannet.fabrics.session.findings import Findings
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.ledger.reader import read_run
from gannet.ledger.writer import Ledger
from gannet.netem.measure.certificate import Certificate
from gannet.node.training.meter import StepStats
from gannet.spec.load import SpecError
from tests.support.interrupted import SPEC, Crash, Doom, by_node, comparison, interrupted, lines, snapshots


def test_the_ledger_is_that_of_a_run_that_never_stopped(tmp_path: Path) -> None:
    (spec,) = comparison().runs()
    whole = run_one(spec, tmp_path / "whole", run_virtual)
    run = tmp_path / "run" / "seed-1"
    interrupted(spec, run)
    kept = CheckpointFolder(run, 3)
    assert kept.whole() == [16, 20]
    summary = run_one(spec, run, run_virtual, resume=True)
    fields = ("codec_bytes", "missing")
    assert by_node(lines(run), *fields) == by_node(lines(tmp_path / "whole"), *fields)
    assert [line["loss"] for line in sorted(lines(run), key=lambda line: (line["node"], line["step"]))] == [
        line["loss"] for line in sorted(lines(tmp_path / "whole"), key=lambda line: (line["node"], line["step"]))
    ]
    assert snapshots(run) == snapshots(tmp_path / "whole") and len(snapshots(run)) == 3 * 9
    assert kept.whole() == [36, 40] and len(list(kept.folder.iterdir())) == 2
    assert summary.resumed_after == (20,) and summary.status == "finished" and summary.trusted
    for figure in ("steps", "bytes_codec", "bytes_grpc", "bytes_interface", "missing_messages", "parameters"):
        assert getattr(summary, figure) == getattr(whole, figure)
    # In flight when a checkpoint is taken is nothing that matters to x, but a link is free a little sooner after it.
    assert summary.seconds == pytest.approx(whole.seconds, rel=0.02)
    (once,) = lines(run, "resumed.jsonl")
    assert once["step"] == 20 and once["reasons_before"] == []


def longer(folder: Path, *sets: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["resume", str(folder), *(word for text in sets for word in ("--set", text))])
    assert done.exit_code == status, done.output
    return done.output


@pytest.mark.parametrize("every", [4, 7])  # steps between checkpoints: with one at the end, and with none
def test_a_finished_comparison_goes_on_to_a_later_end(tmp_path: Path, every: int) -> None:
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(SPEC | {"seeds": [1, 2], "checkpoint_every": every}))
    for name, steps in (("short", 40), ("whole", 60)):
        line = [
            "compare",
            str(tmp_path / "quick.yaml"),
            "--out",
            str(tmp_path / name),
            "--set",
            f"stop.steps={steps}",
        ]
        assert CliRunner().invoke(app, line).exit_code == 0
    longer(tmp_path / "short", "stop.steps=60")
    for seed in (1, 2):
        run, whole = (tmp_path / name / "run" / f"seed-{seed}" for name in ("short", "whole"))
        assert snapshots(run) == snapshots(whole) and len(snapshots(run)) == 3 * 13
        assert by_node(lines(run), "codec_bytes") == by_node(lines(whole), "codec_bytes")
        assert (read_run(run).summary.status, read_run(run).summary.steps) == ("finished", 60)
        assert (run / "spec.yaml").read_text() == (whole / "spec.yaml").read_text()
    assert (tmp_path / "short" / "spec.yaml").read_text() == (tmp_path / "whole" / "spec.yaml").read_text()
    assert "every run has reached stop.steps=50" in longer(tmp_path / "short", "stop.steps=50", status=2)
    assert "a later end: --set stop.steps" in longer(tmp_path / "short", status=2)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["batch=64"], "only its end can be set: stop.steps, stop.seconds, stop.score"),
        (["stop.hours=3"], "only its end can be set"),
        (["stop.steps=-1"], "--set stop.steps: "),
        (["stop.steps"], "write key=value"),
    ],
)
def test_only_the_end_of_a_run_can_be_set(tmp_path: Path, sets: list[str], words: str) -> None:
    begin_comparison(comparison(), tmp_path)
    assert words in longer(tmp_path, *sets, status=2)


def test_a_later_end_needs_checkpoints_and_the_comparisons_folder(tmp_path: Path) -> None:
    plain = comparison(checkpoint_every=None)
    begin_comparison(plain, tmp_path)
    run = tmp_path / "run" / "seed-1"
    run_one(plain.runs()[0], run, run_virtual)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert "no step of which all nodes have a checkpoint" in longer(tmp_path, "stop.steps=60", status=2)
    assert f"give its folder, {tmp_path}" in longer(run, "stop.steps=60", status=2)
    assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}


def test_it_can_be_interrupted_again_and_by_the_user(tmp_path: Path) -> None:
    (spec,) = comparison().runs()
    run_one(spec, tmp_path / "whole", run_virtual)
    run = tmp_path / "run"
    summary = run_one(spec, run, Doom(11, KeyboardInterrupt))
    assert summary.status == "stopped"
    with pytest.raises(Crash):
        run_one(spec, run, Doom(31), resume=True)
    assert not (run / "summary.json").exists()
    summary = run_one(spec, run, run_virtual, resume=True)
    assert summary.resumed_after == (8, 28)
    assert snapshots(run) == snapshots(tmp_path / "whole")


class Distrusted:
    """A fabric on which something is wrong with the links from the eighth step on, told as real fabrics tell it.

    Those are in tests/fabrics/namespaces/test_resume.py.
    """

    def __init__(self, reason: str, step: int) -> None:
        self._reason, self._doom = reason, Doom(step)

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        reasons: list[str] = []
        reason, findings = self._reason, Findings(Certificate(), lambda: reasons, sink.certificate)

        class Watched(Tee):
            def step(self, rank: int, stats: StepStats) -> None:
                super().step(rank, stats)
                if stats.step % 20 == 8:
                    reasons.append(reason)
                findings.look(at_once=True)

        return self._doom(job, Watched(sink))


def test_what_was_wrong_with_the_links_before_is_not_forgotten(tmp_path: Path) -> None:
    """Of any part of the run, though each ended without a last word; and once each."""
    (spec,) = comparison().runs()
    run = tmp_path / "run"
    with pytest.raises(Crash):
        run_one(spec, run, Distrusted("link 0 → 1: too slow", 23))
    with pytest.raises(Crash):
        run_one(spec, run, Distrusted("node 2: its link agent was lost", 31), resume=True)
    found = read_run(run)
    assert found.summary.reasons[1:] == ("before step 20: link 0 → 1: too slow",)  # of a run without a summary, too
    assert "node 2: its link agent was lost" in found.distrust
    with pytest.raises(Crash):  # before it comes to a checkpoint, and before anything is wrong
        run_one(spec, run, Doom(30), resume=True)
    summary = run_one(spec, run, run_virtual, resume=True)
    assert not summary.trusted
    assert summary.reasons == (
        "before step 20: link 0 → 1: too slow",
        "before step 28: node 2: its link agent was lost",
    )


def test_the_interfaces_bytes_grow_over_the_whole_run(tmp_path: Path) -> None:
    """New processes have new interfaces, which count from zero, probes too; a ledger's totals grow."""
    (spec,) = comparison().runs()
    run, resumed = tmp_path / "run", Resumed(4, (2.0, 2.1, 2.0), (b"", b"", b""))
    ledger = Ledger(run, spec)
    for t_s, total in ((1.0, 700), (2.0, 900), (3.0, 1500)):
        ledger.links({"t_s": t_s, "node": 0, "tx_bytes": total, "rx_bytes": total + 1})
    ledger.close()
    ledger = Ledger(run, spec, resumed)
    for t_s, total in ((2.2, 100), (3.2, 250)):
        ledger.links({"t_s": t_s, "node": 0, "tx_bytes": total, "rx_bytes": total})
        ledger.links({"t_s": t_s, "node": 1, "tx_bytes": total, "rx_bytes": total})
    ledger.close()
    found = lines(run, "links.jsonl")
    assert [(n["t_s"], n["tx_bytes"], n["rx_bytes"]) for n in found if n.get("node") == 0] == [
        (1.0, 700, 701), (2.0, 900, 901), (2.2, 900, 901), (3.2, 1050, 1051),
    ]  # fmt: skip
    assert [n["tx_bytes"] for n in found if n.get("node") == 1] == [100, 250]
    read = read_run(run)
    assert [(event.event, event.detail) for event in read.events] == [("resumed", "went on after step 4")]
    assert len(read.links) == 6


def test_links_are_as_they_were_at_that_moment(tmp_path: Path) -> None:
    """The schedule goes on: what is past is in force at once and not told again, what is to come still comes."""
    schedule = [
        {"at_s": 0.1, "profile": {"rate": "2Mbit", "delay_ms": 7}},
        {"at_s": 0.6, "profile": {"rate": "3Mbit", "delay_ms": 9}},
    ]
    (spec,) = comparison(links={**SPEC["links"], "schedule": schedule}).runs()
    whole = run_one(spec, tmp_path / "whole", run_virtual)
    run = tmp_path / "run"
    interrupted(spec, run)
    job = resumed_job(job_of(spec), run)
    assert job.links.profile.up_bps == 2_000_000 and [change.at_s for change in job.changes] == [0.6]
    summary = run_one(spec, run, run_virtual, resume=True)
    told = [line["t_s"] for line in lines(run, "links.jsonl") if line.get("event") == "links"]
    assert told == [0.1, 0.6] and whole.seconds > 0.6
    assert summary.seconds == pytest.approx(whole.seconds, rel=0.02)


def test_a_comparison_does_what_is_left(tmp_path: Path) -> None:
    """One arm has finished, one was interrupted, one has not begun."""
    arms = {"first": {}, "second": {"algorithm": {"name": "choco"}}, "third": {"algorithm": {"name": "local"}}}
    three = comparison(arms=arms)
    begin_comparison(three, tmp_path)
    first, second, _ = three.runs()
    run_one(first, tmp_path / "first" / "seed-1", run_virtual)
    interrupted(second, tmp_path / "second" / "seed-1")
    before = (tmp_path / "first" / "seed-1" / "steps.jsonl").read_bytes()
    result = CliRunner().invoke(app, ["resume", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "first" / "seed-1" / "steps.jsonl").read_bytes() == before
    status = {arm: json.loads((tmp_path / arm / "seed-1" / "summary.json").read_text()) for arm in arms}
    assert {arm: summary.get("resumed_after") for arm, summary in status.items()} == {
        "first": None, "second": [20], "third": None,
    }  # fmt: skip
    assert (tmp_path / "report.html").exists()
    again = CliRunner().invoke(app, ["resume", str(tmp_path)])
    assert again.exit_code == 2 and "every run has finished" in again.output


def test_a_single_run_of_a_comparison_can_be_named(tmp_path: Path) -> None:
    two = comparison(arms={"one": {}, "other": {}})
    begin_comparison(two, tmp_path)
    for spec in two.runs():
        interrupted(spec, tmp_path / spec.arm / "seed-1")
    left = resume_plan(tmp_path / "other" / "seed-1")
    assert left.folder == tmp_path and [spec.arm for spec in left.left] == ["other"]
    assert len(resume_plan(tmp_path).left) == 2


def test_a_spec_is_told_at_once_where_checkpoints_are_of_no_use() -> None:
    for change, said in (
        ({"algorithm": {"name": "ad-psgd"}}, "synchronous method"),
        ({"fabric": "compose"}, "namespaces or virtual"),
        ({"checkpoint_every": 0}, "more than 0"),
    ):
        with pytest.raises(SpecError, match=said):
            comparison(**change)
