"""The report's other scores: what stands in table, panels and bars against the lines of the ledgers."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from gannet.report import read_comparison, summarise, write_report
from gannet.report.results import measure
from gannet.report.score_tables import all_scores, class_shares, columns, over_time
from tests.report.ledger_factory import realistic_plans, write_comparison

TITLES = [
    "Fréchet distance (FashionNet features)",
    "kernel distance (FashionNet features)",
    "FashionNet score",
    "precision (FashionNet features)",
    "recall (FashionNet features)",
    "coverage (FashionNet features)",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_comparison(tmp_path / "demo", realistic_plans())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text("".join(json.dumps(line | changes) + "\n" for line in lines(path)))


def test_the_table_names_every_score_and_its_network_and_which_way_is_better(folder: Path) -> None:
    table = all_scores(measure(read_comparison(folder)))
    assert table is not None
    assert [column.title for column in table.columns] == TITLES
    assert [column.arrow for column in table.columns] == ["↓", "↓", "↑", "↑", "↑", "↑"]
    assert table.samples == (1000,)
    last = [lines(folder / "dp-oadam" / f"seed-{seed}" / "scores.jsonl")[-1] for seed in (1, 2)]
    arm, cells = table.rows[0]
    assert arm.name == "dp-oadam"
    for cell, key in zip(cells, ("score", "kid", "inception-score", "precision", "recall", "coverage"), strict=True):
        values = [line[key] for line in last]
        assert float(cell.text) == pytest.approx(mean(values), rel=5e-3)
        assert float(cell.below.removeprefix("± ")) == pytest.approx(stdev(values), rel=5e-3)


def test_only_runs_that_count_are_in_the_table(folder: Path) -> None:
    rewrite(folder / "cp-ring" / "seed-2" / "scores.jsonl", precision=1e6)  # untrusted, so it is set aside
    table = all_scores(measure(read_comparison(folder)))
    assert table is not None
    cells = {arm.name: cells for arm, cells in table.rows}
    assert float(cells["cp-ring"][3].text) < 1 and cells["cp-ring"][3].below == "one seed"


def test_scores_on_other_features_have_a_column_of_their_own(folder: Path) -> None:
    for seed in (1, 2):
        path = folder / "cp-ring" / f"seed-{seed}" / "scores.jsonl"
        rewrite(path, features="Inception", score_name="FID", samples=5000)
    table = all_scores(measure(read_comparison(folder)))
    assert table is not None
    names = [column.title for column in table.columns]
    assert names[:2] == [TITLES[0], "FID"] and {"KID", "Inception score", "recall (Inception features)"} < set(names)
    assert table.samples == (1000, 5000)
    for arm, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            own = column.title == "FID" or "KID" in column.title or "Inception" in column.title
            assert (cell.text == "–") == (own != (arm.name == "cp-ring"))


def test_figures_that_only_a_task_knows_stand_there_by_their_name_and_without_an_arrow(folder: Path) -> None:
    for path in folder.rglob("scores.jsonl"):
        rewrite(path, features="", score_name="test error (%)", more=["accuracy"], accuracy=77.95, classes=None)
    results = measure(read_comparison(folder))
    assert [(column.title, column.arrow) for column in columns(results)] == [
        ("test error (%)", "↓"),
        ("accuracy", ""),
    ]
    table = all_scores(results)
    assert table is not None and table.rows[0][1][1].text in ("77.9", "78", "78.0")
    assert class_shares(results) is None


def test_panels_and_bars_hold_the_ledgers_numbers(folder: Path) -> None:
    results = measure(read_comparison(folder))
    figure = over_time(results)
    assert figure is not None
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert titles[:2] == ["kernel distance (FashionNet) ↓", "FashionNet score ↑"] and len(titles) == 5
    failed = lines(folder / "cp-server" / "seed-2" / "scores.jsonl")
    (drawn,) = [
        trace for trace in figure["data"] if trace["yaxis"] == "y3" and "seed 2 (failed)" in trace.get("name", "")
    ]
    assert drawn["y"] == pytest.approx([line["precision"] for line in failed], rel=1e-5)
    for name, axis in figure["layout"].items():
        if name.startswith(("xaxis", "yaxis")):
            low, high = axis["domain"]
            assert 0 <= low < high <= 1
    bars = class_shares(results)
    assert bars is not None
    shares = [lines(folder / "dp-oadam" / f"seed-{seed}" / "scores.jsonl")[-1]["classes"] for seed in (1, 2)]
    first = bars["data"][0]
    assert first["x"] == list(shares[0])
    assert first["y"] == pytest.approx([mean(each[name] for each in shares) for name in shares[0]], abs=1e-5)
    assert bars["layout"]["shapes"][0]["y0"] == pytest.approx(0.1)


def test_a_shortfall_is_said_once_in_page_and_summary_whatever_the_number_of_runs(folder: Path) -> None:
    text = "KID: subsets of 500 images instead of 1,000"
    for path in folder.rglob("summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"score_shortfalls": [text]}))
    content = summarise(read_comparison(folder))
    assert content["notes"].count(f"Too few images for a score: {text}.") == 1
    page = write_report(read_comparison(folder)).read_text()
    assert page.count(text) == 1
    assert "All scores at the end" in page and "Classes among the last images" in page
    arm = content["arms"][0]["final_scores"]
    assert list(arm) == TITLES and arm[TITLES[1]]["n"] == 2


def test_ledgers_from_before_there_were_other_scores_are_read_as_they_are(folder: Path) -> None:
    for path in folder.rglob("scores.jsonl"):
        kept = ("step", "t_s", "bytes", "score", "score_name", "classes_found")
        path.write_text("".join(json.dumps({key: line[key] for key in kept}) + "\n" for line in lines(path)))
    results = measure(read_comparison(folder))
    assert all_scores(results) is None and over_time(results) is None and class_shares(results) is None
    assert "All scores at the end" not in write_report(read_comparison(folder)).read_text()
