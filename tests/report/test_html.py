"""The report page: it holds every arm, number and reason, loads nothing, runs nothing that came from
files, and draws all its plots in a real browser."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from gannet.ledger.reader import read_comparison, read_run
from gannet.report import link_plots, plots, write_report, write_run_report
from gannet.report.results import measure
from tests.report.ledger_factory import RunPlan, realistic_plans, write_comparison

HOSTILE = """<img src=x onerror=alert(1)></script><script>alert(2)</script>&quot;'"{{7*7}} %{x} @arm1"""
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)
LOADING = {"src", "href", "srcset", "data", "poster", "action", "formaction", "xlink:href", "background"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, styles, scripts, JSON blocks, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.figures, self.open = "", {}, [""]
        self.scripts: list[str] = []
        self.styles = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while len(self.open) > 1 and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "script":
            attributes = self.tags[-1][1]
            if attributes.get("type") == "application/json":
                self.figures[str(attributes["id"]).removeprefix("figure-")] = json.loads(data)
            else:
                self.scripts.append(data)
        elif self.open[-1] == "style":
            self.styles += data
        else:
            self.text += data

    @property
    def plain(self) -> str:
        return re.sub(r"\s+", " ", self.text.replace("\N{NO-BREAK SPACE}", " "))

    def loads(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (value or "" for name, value in attributes.items() if name in LOADING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("report") / "demo", realistic_plans(), name="A demo")


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_report(read_comparison(folder)).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plans = realistic_plans()
    for plan in plans:
        if plan.arm == "cp-ring":
            plan.label, plan.arm = HOSTILE, "<b>bold"
        if plan.arm == "cp-server":
            plan.reason = plan.reason and HOSTILE
            plan.trusted, plan.reasons = False, (HOSTILE,)
        plan.topology = HOSTILE
    return write_comparison(tmp_path_factory.mktemp("hostile") / "demo", plans, name=HOSTILE)


def test_it_holds_every_arm_number_and_reason(page: Page, folder: Path) -> None:
    for run in read_comparison(folder).runs:
        assert f"{run.label}, seed {run.seed}" in page.plain
        for reason in (*run.summary.reasons, run.summary.reason or ""):
            assert reason in page.plain
    found = measure(read_comparison(folder))
    for arm in found.arms:
        assert arm.label in page.plain
        assert arm.final_score is not None and f"{arm.final_score.mean:.3g}" in page.plain
        assert arm.seconds_to_target is not None and f"{arm.seconds_to_target.mean:.3g} s" in page.plain
    assert "1.58 MB" in page.plain  # four nodes send 395 kB a step
    assert "DP-OAdam on a ring reached a Fréchet distance of 51 in 41.3 s" in page.plain
    assert "AMD EPYC 7B13" in page.plain and "links: demo-10mbit" in page.plain and "cubic" in page.plain


def test_distrust_is_everywhere(page: Page) -> None:
    assert "⚠ partly trusted" in page.plain and "1 run set aside ⚠" in page.plain
    for key in ("quality-seconds", "quality-bytes", "consensus"):
        names = {trace["name"]: trace["line"]["dash"] for trace in page.figures[key]["data"] if "name" in trace}
        assert names["Central averaging, ring all-reduce, seed 2 (⚠ untrusted)"] == "dash"
        assert names["Central averaging, server, seed 2 (failed)"] == "dot"
    assert any("⚠ untrusted" in row for row in page.figures["deviation"]["layout"]["yaxis"]["ticktext"])


def test_an_arm_without_trusted_runs_is_marked_in_table_legend_and_bars(tmp_path: Path) -> None:
    plans = realistic_plans((1,), broken=False)
    plans[1].trusted, plans[1].reasons = False, ("engine late: p99 9 ms",)
    page = Page(write_report(read_comparison(write_comparison(tmp_path / "c", plans))).read_text(encoding="utf-8"))
    assert "⚠ untrusted engine late: p99 9 ms" in page.plain.replace("untrustedengine", "untrusted engine")
    names = [trace.get("name", "") for trace in page.figures["quality-seconds"]["data"]]
    assert "Central averaging, server ⚠ untrusted" in names
    assert any("⚠ untrusted" in row for row in page.figures["step-time"]["layout"]["yaxis"]["ticktext"])
    assert page.figures["activity-1"]["data"][0]["line"]["dash"] == "dash"


def test_it_is_self_contained(page: Page) -> None:
    for target in page.loads():
        assert target.startswith("data:image/png;base64,"), target[:80]
        assert base64.b64decode(target.split(",", 1)[1]).startswith(b"\x89PNG")
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "form", "a"}
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data: blob:"
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert rules["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests) and len(digests) == 2
    assert "--arm0" in page.styles and "url(" not in page.styles and "@import" not in page.styles


def test_figures_hold_the_numbers(page: Page, folder: Path) -> None:
    run = read_run(folder / "dp-oadam" / "seed-1")
    bars = page.figures["step-time"]["data"]
    assert [trace["name"].split()[0] for trace in bars] == ["computing", "waiting", "other", "lower"]
    assert bars[3]["x"][0] == 0.34
    edges = sum(len(trace["x"]) for trace in page.figures["deviation"]["data"])
    assert edges == 6 * 12 * 2
    bad = next(t for t in page.figures["deviation"]["data"] if t["name"] == "outside tolerance")
    assert bad["x"] == [pytest.approx(-19.0)]
    # 5% of the rate, and max(1 ms, 2% of 25 ms), for each of six runs
    bands = [(shape["x0"], shape["x1"]) for shape in page.figures["deviation"]["layout"]["shapes"]]
    assert sorted(set(bands)) == [(-5.0, 5.0), (-1.0, 1.0)] and len(bands) == 12
    assert len(page.figures["activity-0"]["data"]) == 3 * 4
    rates = link_plots.sent_rates([sample for sample in run.links if sample.node == 0])
    assert rates[0][1] == pytest.approx(8e-6 * (run.links[4].tx_bytes - run.links[0].tx_bytes))


def test_the_band_spans_the_seeds() -> None:
    mean, low, high = plots.band([[(0.0, 10.0), (2.0, 6.0)], [(0.0, 20.0), (1.0, 10.0), (3.0, 0.0)]])
    assert mean == [(0.0, 15.0), (1.0, 9.0), (2.0, 5.5)]
    assert low == [(0.0, 10.0), (1.0, 8.0), (2.0, 5.0)]
    assert high == [(0.0, 20.0), (1.0, 10.0), (2.0, 6.0)]


def test_every_figure_is_valid_plotly_and_every_axis_has_a_unit(page: Page) -> None:
    for key, figure in page.figures.items():
        go.Figure(_coloured(figure))  # raises on any property plotly does not know
        for name, axis in figure["layout"].items():
            if re.fullmatch(r"[xy]axis\d*", name) and "ticktext" not in axis and axis["title"]["text"]:
                assert re.search(r"\(.*\)", axis["title"]["text"]), (key, name)


def _coloured(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _coloured(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_coloured(value) for value in part]
    return "#123456" if isinstance(part, str) and re.fullmatch(r"@[a-z]+\d*(/[\d.]+)?", part) else part


def test_hostile_names_stay_text(hostile_folder: Path, page: Page) -> None:
    hostile = Page(write_report(read_comparison(hostile_folder)).read_text(encoding="utf-8"))
    assert hostile.plain.count(HOSTILE) > 10
    clean = Counter(tag for tag, _ in page.tags)
    found = Counter(tag for tag, _ in hostile.tags)
    assert found["script"] == clean["script"] and found["b"] == clean["b"] and found["img"] == clean["img"]
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    texts = json.dumps(hostile.figures, ensure_ascii=False)
    assert "<img" not in texts and "&lt;img src=x" in texts
    assert all(target.startswith("data:image/png") for target in hostile.loads())


def test_a_run_report_tells_one_run(folder: Path) -> None:
    page = Page(write_run_report(read_run(folder / "dp-oadam" / "seed-1")).read_text(encoding="utf-8"))
    assert "DP-OAdam on a ring on 4 nodes over demo-10mbit links trained 120 steps in 43.8 s" in page.plain
    assert {"losses", "step-time", "quality-seconds", "consensus", "deviation", "activity-0"} <= set(page.figures)
    assert page.figures["step-time"]["layout"]["yaxis"]["ticktext"] == [f"node {node}" for node in range(4)]
    failed = Page(write_run_report(read_run(folder / "cp-server" / "seed-2")).read_text(encoding="utf-8"))
    assert "failed at step 52: node 3 left without a word after step 52." in failed.plain


def test_runs_that_left_almost_nothing_still_make_a_report(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", [RunPlan("a", "A", 1, summary=False, stop_at=3), RunPlan("b", "B", 1)])
    for name in ("steps.jsonl", "scores.jsonl", "links.jsonl", "certificate.json", "environment.json"):
        (folder / "a" / "seed-1" / name).unlink()
    page = Page(write_report(read_comparison(folder)).read_text(encoding="utf-8"))
    assert "a, seed 1, failed at step 0 and is not counted" in page.plain
    model = write_comparison(tmp_path / "m", [RunPlan("a", "A", 1, model=True)])
    text = Page(write_report(read_comparison(model)).read_text(encoding="utf-8"))
    assert "Links of the virtual fabric are modelled" in text.plain and "deviation" not in text.figures


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium here; CI always has one")
@pytest.mark.parametrize("which", ["folder", "hostile_folder"])
def test_a_browser_draws_it_without_errors(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    assert CHROMIUM is not None, "install Chromium (Debian: chromium), CI checks the report in it"
    path = write_report(read_comparison(request.getfixturevalue(which)))
    result = subprocess.run(
        [CHROMIUM, *CHROMIUM_FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True, encoding="utf-8",
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr, result.stderr
    root = re.search(r"<html[^>]*>", result.stdout)
    assert root is not None
    drawn = re.search(r'data-plots="(\d+)/(\d+)"', root.group(0))
    assert drawn is not None and drawn.group(1) == drawn.group(2) and int(drawn.group(1)) == 11
    assert 'data-errors="0"' in root.group(0)
    assert result.stdout.count('class="main-svg"') >= 8
