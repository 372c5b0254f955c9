"""Reading ledgers: tolerant of a run that died, strict and exact about files that are wrong."""

import json
import math
from pathlib import Path

import pytest

from gannet.report import LedgerError, read_comparison, read_run
from gannet.report.results import score_curve
from tests.report.ledger_factory import RunPlan, realistic_plans, write_comparison, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "arm" / "seed-3", RunPlan("arm", "An arm", 3, steps=24))


def test_everything_is_read(folder: Path) -> None:
    run = read_run(folder)
    assert (run.arm, run.seed, run.label, run.finished, run.trusted, run.notes) == (
        "arm",
        3,
        "An arm",
        True,
        True,
        (),
    )
    assert len(run.steps) == 24 * 4 and len(run.scores) == 3 and len(run.images) == 3
    assert run.images[-1].t_s == run.scores[-1].t_s
    assert run.certificate is not None and len(run.certificate.edges) == 12


def test_a_run_that_died_is_read_as_far_as_it_came(folder: Path) -> None:
    (folder / "summary.json").unlink()
    (folder / "scores.jsonl").unlink()
    steps = folder / "steps.jsonl"
    steps.write_text(steps.read_text()[:-40])
    run = read_run(folder)
    assert not run.finished and not run.trusted and len(run.steps) == 24 * 4 - 1
    assert any("steps.jsonl ends in half a line (96)" in note for note in run.notes)
    assert any("cut off after step 24" in note for note in run.notes)
    assert run.distrust


def test_half_a_line_in_a_finished_run_is_an_error(folder: Path) -> None:
    steps = folder / "steps.jsonl"
    steps.write_text(steps.read_text()[:-40])
    with pytest.raises(LedgerError, match=r"steps\.jsonl line 96: not JSON"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("steps.jsonl", "{broken", r"steps\.jsonl line 2: not JSON"),
        ("steps.jsonl", "[1]", r"steps\.jsonl line 2: expected a JSON object, got list"),
        ("steps.jsonl", '{"node": 0, "t_s": 1.0}', r"steps\.jsonl line 2: field step: is missing"),
        (
            "steps.jsonl",
            '{"node": 0, "step": 1, "t_s": -1}',
            r"steps\.jsonl line 2: field t_s: .* \(got '-1'\)",
        ),
        ("links.jsonl", '{"node": 0}', r"links\.jsonl line 2: field t_s"),
        ("links.jsonl", '{"t_s": 1, "node": 0, "tx_bytes": "many"}', r"links\.jsonl line 2: field tx_bytes"),
        ("scores.jsonl", '{"step": 1, "t_s": 1, "bytes": 1.5}', r"scores\.jsonl line 2: field bytes"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, name: str, line: str, expected: str) -> None:
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(LedgerError, match=expected):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("summary.json", '{\n"status": finished}', r"summary\.json line 2: not JSON"),
        ("summary.json", '{"status": "done"}', r"summary\.json: field status: .*'finished'"),
        ("certificate.json", "{}", r"certificate\.json: field trusted: is missing"),
        (
            "certificate.json",
            '{"trusted": true, "edges": [{"src": 0}]}',
            r"certificate\.json: field edges\.0\.dst",
        ),
        ("spec.yaml", "a: 1\nb: [", r"spec\.yaml line 2: not YAML"),
        ("spec.yaml", "- 1", r"spec\.yaml: expected a mapping"),
        ("images/step-000012.png", "GIF89a", r"step-000012\.png: this is not a PNG image"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, name: str, text: str, expected: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(LedgerError, match=expected):
        read_run(folder)


def test_counters_of_bytes_only_grow(folder: Path) -> None:
    with (folder / "links.jsonl").open("a") as file:
        file.write(json.dumps({"t_s": 99.0, "node": 0, "tx_bytes": 5}) + "\n")
    with pytest.raises(LedgerError, match="node 0: tx_bytes falls from"):
        read_run(folder)


def test_numbers_that_diverged_are_read_as_missing(folder: Path) -> None:
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    scores[-1]["score"] = math.nan
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))
    run = read_run(folder)
    assert run.scores[-1].score is None and len(score_curve(run)) == 2


def test_a_run_without_certificate_is_untrusted(folder: Path) -> None:
    (folder / "certificate.json").unlink()
    assert read_run(folder).distrust == ("it has no link certificate",)
    environment = json.loads((folder / "environment.json").read_text()) | {"fabric": "virtual"}
    (folder / "environment.json").write_text(json.dumps(environment))
    assert read_run(folder).trusted and read_run(folder).model  # a model has nothing to certify


def test_a_distrusting_certificate_overrules_the_summary(folder: Path) -> None:
    (folder / "certificate.json").write_text('{"trusted": false, "reasons": ["engine late"]}')
    assert read_run(folder).distrust == ("engine late",)


def test_folders_that_are_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(LedgerError, match="this is no run folder"):
        read_run(tmp_path)
    with pytest.raises(LedgerError, match="no run in it"):
        read_comparison(tmp_path)


def test_a_comparison_keeps_the_order_of_its_spec(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", realistic_plans(), name="Order")
    spec = folder / "spec.yaml"
    spec.write_text(spec.read_text() + "  never-started: {}\n")
    comparison = read_comparison(folder)
    assert [arm.name for arm in comparison.arms] == ["dp-oadam", "cp-server", "cp-ring", "never-started"]
    assert [len(arm.runs) for arm in comparison.arms] == [2, 2, 2, 0]
    assert comparison.name == "Order"
