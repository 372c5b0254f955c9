"""The shipped spec whose links move: it runs by the model, loses nobody, and its report shows what was planned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.links.trace_files import load_trace
from gannet.spec.load import load_spec
from tests.support.gannet import gannet

ROOT = Path(__file__).parents[2]
SMALL = ("score=null", "task.width=4", "task.latent=4", "batch=4", "stop.seconds=60", "snapshot_every=400")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moving") / "out"
    sets = [word for override in SMALL for word in ("--set", override)]
    argv = [sys.executable, "-m", "gannet", "run", "moving", "--arm", "gossip", "--fabric", "virtual", *sets]
    done = subprocess.run([*argv, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_nobody_is_lost_and_no_message_is_missing(run: Path) -> None:
    summary = json.loads((run / "gossip" / "seed-1" / "summary.json").read_text())
    assert summary["trusted"] and summary["reasons"] == [] and summary["missing_messages"] == 0
    steps = [json.loads(line) for line in (run / "gossip" / "seed-1" / "steps.jsonl").read_text().splitlines()]
    waits = [(step["t_s"], step["wait_s"]) for step in steps if step["node"] == 1]
    assert [t_s for t_s, wait_s in waits if wait_s > 4] == pytest.approx([40], abs=0.5)  # cut off from 35 s to 45 s,
    assert len([t_s for t_s, _ in waits if 41 < t_s < 45]) > 5  # and alone once that has lasted for 5 s


@pytest.mark.slow
def test_the_report_shows_what_was_planned(run: Path) -> None:
    """Read out of the page: node 3 follows the trace from 5 s on, and node 1 is at 0 for ten seconds."""
    page = (run / "report.html").read_text()
    found = re.search(r'id="figure-planned-0">(.*?)</script>', page)
    assert found is not None
    traces: list[dict[str, Any]] = json.loads(found[1])["data"]
    assert all(trace["line"]["shape"] == "hv" for trace in traces)
    planned = {(trace["name"], trace["xaxis"]): dict(zip(trace["x"], trace["y"], strict=True)) for trace in traces}

    def at(node: int, panel: str, t_s: float) -> float:
        series = planned[f"node {node}", panel]
        return float(series[max(x for x in series if x <= t_s)])

    drive = load_trace("lte-drive")
    for t_s in (5.0, 7.25, 19.9, 33.1, 50.4):
        point = drive.at(t_s - 5)
        assert at(3, "x", t_s) == pytest.approx((point.down_bps or 0) / 1e6)
        assert at(3, "x2", t_s) == pytest.approx((point.up_bps or 0) / 1e6)
    assert [at(1, "x", t_s) for t_s in (34.9, 35.0, 44.9, 45.0)] == [10, 0, 0, 10]
    assert at(2, "x", 30) == pytest.approx(1.6) and at(2, "x", 45) == 10
    assert 1.6 < at(2, "x", 25) < 10


def test_it_is_a_comparison_on_equal_terms() -> None:
    arms = load_spec("moving").arms
    (links, changes), other = (arm.links_over_time for arm in arms.values())
    assert (links, changes) == other and len(changes) > 100
    assert load_spec("moving", ["fabric=virtual"]).runs()


@pytest.mark.real("runs")
def test_real_nodes_live_through_a_trace_a_cut_and_a_flap(tmp_path: Path) -> None:
    """Nobody is declared lost, no message is missing, and the ledger tells of each change."""
    schedule = [
        {"at_s": 1, "trace": "lte-walk", "nodes": [2]},
        {"at_s": 2, "isolate": [1], "for_s": 5},
        {"at_s": 9, "flap": {"down_s": 1, "up_s": 1, "times": 2}, "nodes": [0]},
    ]
    links = {"profile": {"rate": "20Mbit", "delay_ms": 5}, "schedule": schedule}
    done = gannet(tmp_path / "run", ["run"], links=links, stop={"seconds": 18}, pace_ms=50, snapshot_every=1000)
    assert done.status == 0, done.output
    summary = done.summary()
    assert summary["status"] == "finished" and summary["missing_messages"] == 0 and summary["refused"] == {}
    assert not any("lost" in reason for reason in summary["reasons"])
    assert len({max(line["step"] for line in done.steps() if line["node"] == node) for node in range(3)}) == 1
    told = [json.loads(line) for line in (done.run() / "links.jsonl").read_text().splitlines()]
    applied = [line["operation"] for line in told if line.get("event") == "links"]
    assert applied.count("apply") == 6 and applied[0] == "trace lte-walk at node 2"
    assert any(line.get("event") == "series" for line in told)
