"""Real links cut two nodes off the other two: both halves train on, come together again, and end by the clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gannet.fabrics.session.cut_edges import GRACE_S
from tests.support.gannet import gannet

pytestmark = pytest.mark.real("runs")

CUT_AT_S, CUT_FOR_S, END_S = 5.0, 17.0, 36.0


def distances(run: Path) -> dict[int, float]:
    """The consensus distance of every complete snapshot, computed from its files, by step."""
    found = {}
    for folder in (run / "snapshots").glob("step-*"):
        files = sorted(folder.glob("node-*.safetensors"))
        if len(files) == 4:
            x = np.stack([load_file(path)["x"] for path in files]).astype(np.float64)
            found[int(folder.name.removeprefix("step-"))] = float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))
    return found


def test_both_halves_train_during_a_cut_and_come_together_after_it(tmp_path: Path) -> None:
    ran = gannet(
        tmp_path,
        ["run"],
        nodes=4,
        topology="ring",
        pace_ms=100,
        snapshot_every=5,
        stop={"seconds": END_S},
        links={
            "profile": {"rate": "10Mbit", "delay_ms": 10},
            "schedule": [{"at_s": CUT_AT_S, "partition": "0,1:2,3", "for_s": CUT_FOR_S}],
        },
    )
    assert ran.status == 0, ran.output
    lines = [json.loads(line) for path in tmp_path.rglob("links.jsonl") for line in path.read_text().splitlines()]
    apart, together = [line for line in lines if line.get("event") == "islands"]
    assert apart["islands"] == [[0, 1], [2, 3]] and together["islands"] == [[0, 1, 2, 3]]
    assert apart["t_s"] >= CUT_AT_S + GRACE_S and together["t_s"] >= CUT_AT_S + CUT_FOR_S
    for rank in range(4):
        times_s = [line["t_s"] for line in ran.steps() if line["node"] == rank]
        assert sum(apart["t_s"] < t_s < CUT_AT_S + CUT_FOR_S for t_s in times_s) >= 5  # in each half, at every node
        assert sum(t_s > together["t_s"] for t_s in times_s) >= 5
        assert END_S <= times_s[-1] < END_S + 10  # it made no step late but the last
    summary = ran.summary()
    assert summary["missing_messages"] == 0 and not summary["refused"]
    assert not any("missing" in reason or "lost" in reason for reason in summary["reasons"])
    (run,) = {path.parent for path in tmp_path.rglob("links.jsonl")}
    distance = distances(run)
    last = max(int(folder.name.removeprefix("step-")) for folder in (run / "snapshots").glob("step-*"))
    assert last in distance  # one set of results
    before = max(step for step in distance if step <= together["step"])
    assert distance[last] < 0.5 * distance[before]
