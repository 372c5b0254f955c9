"""The records of a run folder: what version 0.1.0 left is read, and what is written is read back equal."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from rich.console import Console

from gannet.experiment.compare import report_on
from gannet.experiment.runner import run_one
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.ledger.files import validate
from gannet.ledger.reader import read_run
from gannet.ledger.records import Certificate, Environment, Step, Summary, to_json
from gannet.netem.measure.certificate import EdgeResult
from gannet.node.training.meter import StepStats
from gannet.report.player_plots import loss_curve
from gannet.spec.run_spec import RunSpec

OLD = Path(__file__).parent / "run-0.1.0"  # as version 0.1.0 wrote it, without images and snapshots
OLD_RUN = OLD / "gossip" / "seed-1"


def of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OLD_RUN / name).read_text(encoding="utf-8"))
    return content


def test_a_run_of_version_0_1_0_is_read_whole() -> None:
    run = read_run(OLD_RUN)
    lines = [json.loads(line) for line in (OLD_RUN / "steps.jsonl").read_text().splitlines()]
    assert [vars(step) for step in run.steps] == [{**line, "missing": tuple(line["missing"])} for line in lines]
    assert run.environment.facts() == of("environment.json")
    assert run.certificate is not None and not run.model and not run.trusted
    (edge,) = [edge for edge in run.certificate.edges if (edge.src, edge.dst) == (0, 1)]
    assert edge.delay_p50_ms == of("certificate.json")["edges"][0]["delay_p50_ms"]
    assert run.summary.final_score == of("summary.json")["final_score"] and run.summary.parameters == 33818
    assert [score.step for score in run.scores] == [0, 4] and run.scores[0].more["recall"] == 0.0


@pytest.mark.parametrize(
    ("name", "record"),
    [("summary.json", Summary), ("environment.json", Environment), ("certificate.json", Certificate)],
)
def test_no_field_of_version_0_1_0_is_lost_when_its_record_is_written_again(name: str, record: type[Any]) -> None:
    before = of(name)
    after = json.loads(json.dumps(to_json(validate(record, before, OLD_RUN / name, None))))
    assert with_fields_of(after, before) == before


def with_fields_of(record: Any, older: Any) -> Any:
    """The record without fields that an older one of its kind lacks, at any depth."""
    if isinstance(record, dict) and isinstance(older, dict):
        return {name: with_fields_of(record[name], value) for name, value in older.items()}
    if isinstance(record, list) and isinstance(older, list) and len(record) == len(older):
        return [with_fields_of(one, other) for one, other in zip(record, older, strict=True)]
    return record


def test_a_line_of_a_step_has_the_figures_that_are_measured_and_the_node(tmp_path: Path) -> None:
    spec = RunSpec.model_validate(
        {"fabric": "virtual", "nodes": 2, "pace_ms": 10, "task": {"name": "game"}, "algorithm": {"name": "local"},
         "stop": {"steps": 3}, "score": None}
    )  # fmt: skip
    summary = run_one(spec, tmp_path / "run", run_virtual)
    lines = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert all(set(line) == {"node", *(figure.name for figure in fields(StepStats))} for line in lines)
    run = read_run(tmp_path / "run")
    assert run.summary == summary and run.model
    assert run.certificate is not None and all(type(edge) is EdgeResult for edge in run.certificate.edges)


def test_losses_that_diverged_are_not_drawn(tmp_path: Path) -> None:
    copytree(OLD_RUN, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    for line in lines:
        if line["step"] > 2:
            line["loss"]["generator"] = math.nan
    (tmp_path / "run" / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(tmp_path / "run")
    assert len(loss_curve(run, "generator")) == 2 and len(loss_curve(run, "discriminator")) == 4


def test_a_step_is_checked_by_the_bounds_of_its_figures() -> None:
    assert validate(Step, {"node": 0, "step": 1, "t_s": 2}, OLD_RUN, 1).codec_bytes == 0
    with pytest.raises(ValueError, match="field codec_bytes"):
        validate(Step, {"node": 0, "step": 1, "t_s": 2, "codec_bytes": -1}, OLD_RUN, 1)


@pytest.mark.parametrize("single", [False, True])
def test_a_report_reads_each_file_of_a_run_once(tmp_path: Path, single: bool) -> None:
    copytree(OLD, tmp_path / "comparison")
    folder = tmp_path / "comparison" / "gossip" / "seed-1"
    opened: Counter[str] = Counter()
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(str(folder)) and arguments[1] in ("r", "rb"):
            opened[Path(str(arguments[0])).name] += 1

    sys.addaudithook(watch)
    report_on(folder if single else tmp_path / "comparison", Console(quiet=True))
    watching = False
    names = ("steps.jsonl", "links.jsonl", "scores.jsonl", "summary.json", "certificate.json", "environment.json")
    assert opened == dict.fromkeys((*names, "spec.yaml"), 1)
