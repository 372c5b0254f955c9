"""`gannet net traces` and the lines that tell of traces elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.cli.standalone_network import _series_words
from gannet.console import one_line
from gannet.netem.links.trace_files import list_traces


def told(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_every_shipped_trace_is_a_line() -> None:
    status, output = told("net", "traces")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()[1:]] == list_traces()


def test_a_file_is_described_with_its_outage(tmp_path: Path) -> None:
    # 1,000 packets in the first second, none for two, 1,000 in the fourth: 6.056 Mbit/s of frames on average.
    lines = [*range(1, 1001), *range(3001, 4001)]
    (tmp_path / "gap").write_text("".join(f"{at}\n" for at in lines))
    status, output = told("net", "traces", str(tmp_path / "gap"))
    assert status == 0
    rows = {line.split("  ")[0].strip(): " ".join(line.split()) for line in output.splitlines()}
    assert rows["lasts"] == "lasts 4 s, then starts over"
    assert rows["outages"] == "outages packets sent meanwhile wait in the buffer"
    assert rows["down"] == "down 6.056 Mbit/s 0 0 0 12.11 Mbit/s 12.11 Mbit/s 2 1, 2 s 2 s"
    assert rows["down, of IP"] == "down, of IP 6 Mbit/s"


def test_traces_share_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    status, output = told("net", "traces", "lte-walk", "starlink", "-o", str(out))
    assert status == 0 and f"drawn: {out}" in output
    page = out.read_text()
    call = page[page.rindex("Plotly.newPlot(") :]
    data = json.JSONDecoder().raw_decode(call[call.index("[") :])[0]
    # lte-walk has rates alone; starlink has delays and losses too.
    assert [(line["name"], line["yaxis"]) for line in data] == [
        ("down", "y"), ("up", "y"), ("down", "y2"), ("up", "y2"), ("delay", "y3"), ("loss", "y4"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["x.pdf", "nowhere/x.html"])
def test_a_picture_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    status, output = told("net", "traces", "no such trace", "-o", str(tmp_path / name))
    assert status == 2
    assert f"--out {tmp_path / name}: " in output.replace("\n", " ")


def test_a_dry_run_tells_of_a_trace_in_a_line(tmp_path: Path) -> None:
    replays = ", ".join(f"{{at_s: {n}, trace: lte-drive, nodes: [{n % 4}]}}" for n in range(300))
    (tmp_path / "spec.yaml").write_text(
        "nodes: 4\nfabric: virtual\npace_ms: 10\ntask: {name: mixture, width: 4, latent: 2, samples: 100}\n"
        "algorithm: {name: dp-oadam}\nstop: {steps: 4, seconds: 500}\nscore: {points: 1}\n"
        f"links: {{profile: lte, schedule: [{replays}]}}\n"
    )
    status, output = told("run", str(tmp_path / "spec.yaml"), "--dry-run")
    assert status == 0, output
    assert len([line for line in output.splitlines() if line.startswith("trace lte-drive: 120 s, down ")]) == 1
    assert max(map(len, output.splitlines())) < 400


def test_a_long_enumeration_fits_a_line() -> None:
    text = ", ".join(f"trace a at node {n}" for n in range(500))
    shown = one_line(text)
    kept = shown.count("trace a")
    assert len(shown) <= 160 and shown.endswith(f"trace a at node {kept - 1}, and {500 - kept} more")
    assert one_line("lte, node 2: 3g-slow") == "lte, node 2: 3g-slow"


def test_steps_of_a_series_are_a_phrase() -> None:
    steps = [0.1 * n for n in range(1000)]
    nodes = {
        "0": {"step": [], "down_bps": [1_000_000] * 500 + [5_000_000] * 500, "up_bps": [None], "delay_ms": [20.0]}
    }
    news = {"name": "trace a at node 0", "at_s": steps, "late_ms": [0.1, 2.5], "nodes": nodes}
    assert _series_words(news) == (
        "trace a at node 0: 1000 steps, down 1 to 5 Mbit/s, one way 20 ms, 2.5 ms late at most"
    )
