"""A real process that joins a run under way."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.gannet import Ran, start
from tests.support.patience import wait_until

pytestmark = pytest.mark.real("runs")


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    """The whole lines of a file of the run so far."""
    text = (run / name).read_text() if (run / name).exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_node_joins_a_run_under_way_and_nothing_counts_as_lost(tmp_path: Path) -> None:
    """From its first step on it makes the others' steps, and no mix lacks its messages."""
    run = tmp_path / "out" / "run" / "seed-1"

    def joined() -> dict[str, Any] | None:
        return next((line for line in lines(run, "links.jsonl") if line.get("event") == "node-joined"), None)

    def trained_together() -> list[Path]:
        all_three = [f for f in run.glob("snapshots/step-*") if len(list(f.glob("node-*.safetensors"))) == 3]
        return [folder for folder in all_three if int(folder.name[5:]) > line["step"] + 5]

    process = start(tmp_path, ["run"], pace_ms=50, stop={"seconds": 900}, join_at_s={2: 1})
    line = wait_until("node 2 has joined", joined)
    (folder, *_) = wait_until("all have trained together", trained_together)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert line["node"] == 2 and line["t_s"] >= 1 and "node 2 has joined after step" in output
    own = [step["step"] for step in ran.steps() if step["node"] == 2]
    assert own == list(range(line["step"] + 1, line["step"] + 1 + len(own))) and len(own) >= 5
    missed = [step["step"] for step in ran.steps() if 2 in step.get("missing", [])]
    assert max(missed) <= line["step"]
    x = [load_file(folder / f"node-{rank}.safetensors")["x"] for rank in (0, 2)]
    assert np.abs(x[1] - x[0]).max() < 0.1 and np.abs(x[0]).max() > 0  # it trains what the others train
    reasons = ran.summary()["reasons"]
    assert not [reason for reason in reasons if "lost" in reason or "missing" in reason], reasons
