"""Asynchronous nodes on real processes and real TCP: one is slow, the others are not."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.support.gannet import gannet

pytestmark = pytest.mark.real("runs")


def test_a_slow_node_keeps_nobody_waiting(tmp_path: Path) -> None:
    ran = gannet(
        tmp_path,
        ["run"],
        algorithm={"name": "ad-psgd"},
        topology="complete",
        pace_ms=40,
        node_pace_ms={2: 400},
        stop={"seconds": 6},
        snapshot_every=50,
    )
    assert ran.status == 0, ran.output
    summary, steps = ran.summary(), ran.steps()
    made = [sum(line["node"] == node for line in steps) for node in range(3)]
    # At most a step each pace, whatever the machine; the slow one would hold the others at its own number.
    assert made[2] <= summary["seconds"] / 0.4 + 1 and min(made[:2]) > 3 * made[2]
    assert summary["refused"] == {} and summary["missing_messages"] == 0
    # A machine that stands still has all wait; where nodes wait for the slow one, they do so in every step.
    assert median(line["wait_s"] for line in steps if line["node"] < 2) < 0.04
    # Messages went both ways, and what gRPC sent is what the codec says.
    message = 4 * summary["parameters"]
    assert summary["bytes_codec"] >= 2 * made[2] * message
    assert summary["bytes_codec"] <= summary["bytes_grpc"] <= 1.02 * summary["bytes_codec"] + 3000
    folders = sorted((ran.run() / "snapshots").iterdir())
    assert [folder.name for folder in folders[:2]] == ["step-000000", "step-000050"]
    assert all(len(list(folder.glob("node-*.safetensors"))) == 3 for folder in folders)
