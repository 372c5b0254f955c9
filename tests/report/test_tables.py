"""comparison.json and the terminal's table."""

import json
import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from gannet.report import comparison_table, read_comparison, summarise, write_summary
from gannet.report.summary import conclusion_text
from tests.report.ledger_factory import CREATED, realistic_plans, write_comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("tables") / "demo", realistic_plans())


def shown(renderable: RenderableType, width: int = 200) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_comparison_json(folder: Path) -> None:
    content = json.loads(write_summary(read_comparison(folder)).read_text(encoding="utf-8"))
    assert (content["format"], content["name"], content["created"]) == (1, "demo", CREATED)
    assert content["trust"] == "partly trusted" and content["trusted"] is False
    assert content["conclusion"].startswith("On 4 nodes over demo-10mbit links, DP-OAdam on a ring reached")
    assert set(content["sentences"]) == set(content["verdicts"]) == {"time", "bytes", "quality"}
    verdict = content["verdicts"]["time"]
    assert (verdict["leader"], verdict["leader_trusted"], verdict["confidence"]) == (
        "dp-oadam",
        True,
        "indication",
    )
    assert content["target"]["reached_by"] == ["dp-oadam", "cp-server", "cp-ring"]
    arms = {arm["name"]: arm for arm in content["arms"]}
    assert (arms["cp-ring"]["counted"], arms["cp-ring"]["set_aside"]) == ([1], [2])
    assert (arms["cp-server"]["counted"], arms["cp-server"]["unfinished"]) == ([1], [2])
    scores = [run["final_score"] for run in arms["dp-oadam"]["runs"]]
    assert arms["dp-oadam"]["final_score"]["mean"] == pytest.approx(sum(scores) / 2)
    assert arms["dp-oadam"]["final_score"]["spread"] == pytest.approx(abs(scores[0] - scores[1]) / math.sqrt(2))
    single = arms["cp-ring"]["final_score"]
    assert (single["mean"], single["n"]) == (arms["cp-ring"]["runs"][0]["final_score"], 1)
    assert {single[key] for key in ("spread", "stderr", "low", "high")} == {None}


def test_writing_it_again_changes_nothing(folder: Path) -> None:
    first = write_summary(read_comparison(folder)).read_bytes()
    assert write_summary(read_comparison(folder)).read_bytes() == first
    assert json.loads(first) == summarise(read_comparison(folder))


def test_numbers_json_cannot_hold_become_null(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", realistic_plans((1,), broken=False))
    path = folder / "dp-oadam" / "seed-1" / "summary.json"
    summary = json.loads(path.read_text()) | {"final_score": math.nan, "best_score": math.inf}
    path.write_text(json.dumps(summary))
    text = write_summary(read_comparison(folder)).read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["arms"][0]["runs"][0]["best_score"] is None


def test_the_terminal_table(folder: Path) -> None:
    text = shown(comparison_table(read_comparison(folder)))
    for label in ("DP-OAdam on a ring", "Central averaging, server", "Central averaging, ring all-reduce"):
        assert label in text
    assert "1 of 2 seeds" in text and "1 run set aside ⚠ untrusted" in text
    assert "41.3 s" in text and "1.58 MB" in text
    narrow = shown(comparison_table(read_comparison(folder)), width=80)
    assert all(word in narrow for word in ("DP-OAdam", "averaging,", "all-reduce", "untrusted", "2 of 2"))
    told = shown(conclusion_text(read_comparison(folder)))
    assert told.startswith("partly trusted: 1 run is untrusted and 1 run did not finish")
    assert "node 3 left without a word" in told


def test_names_are_no_markup(tmp_path: Path) -> None:
    plans = realistic_plans((1,), broken=False)
    plans[0].label = "[red]alarm[/red] [link=https://evil.example]x[/link]"
    plans[1].trusted, plans[1].reasons = False, ("[bold]late[/bold]",)
    comparison = read_comparison(write_comparison(tmp_path / "c", plans, name="[blink]x"))
    text = shown(comparison_table(comparison))
    assert "[red]alarm[/red]" in text and "[blink]x" in text
    assert "⚠ untrusted" in text and "1 reason, below" in text
    assert "[bold]late[/bold]" in shown(conclusion_text(comparison))


def test_what_is_hidden_behind_computing_is_told(tmp_path: Path) -> None:
    plans = realistic_plans((1,), broken=False)
    plans[0].hidden_s = 0.25
    folder = write_comparison(tmp_path / "c", plans)
    assert shown(comparison_table(read_comparison(folder))).count("250 ms overlapped") == 1
    assert [arm["hidden_s"] for arm in summarise(read_comparison(folder))["arms"]] == [0.25, 0.0, 0.0]
