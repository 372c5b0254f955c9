"""Real processes that are killed and come back: where they begin, what they cost the others, and what is recorded."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.gannet import Ran, node_process, start

pytestmark = pytest.mark.real("runs")


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The whole lines of a file of the run so far."""
    file = folder / "out" / "run" / "seed-1" / name
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(what: Any, timeout_s: float = 240.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(folder, "links.jsonl") if line.get("event") == event]


@pytest.mark.parametrize(
    "run",
    [
        {"algorithm": {"name": "dp-oadam"}, "encrypt": True},  # the process that comes back has another certificate
        {"algorithm": {"name": "cp-oadam", "collective": "server"}},
    ],
    ids=["encrypted gossip", "server"],
)
def test_a_killed_node_comes_back_with_its_neighbours_state(tmp_path: Path, run: dict[str, Any]) -> None:
    process = start(tmp_path, ["run"], nodes=3, pace_ms=50, return_after_s=1, stop={"seconds": 30}, **run)
    wait_for(lambda: len(lines(tmp_path, "steps.jsonl")) > 30)
    os.kill(node_process(str(tmp_path), 2), signal.SIGKILL)
    wait_for(lambda: events(tmp_path, "node-returned"))
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert ran.status == 0, output
    (lost,), (back,) = events(tmp_path, "node-lost"), events(tmp_path, "node-returned")
    assert (lost["node"], back["node"]) == (2, 2) and "is back after step" in output
    steps = ran.steps()
    last = max(line["step"] for line in steps)
    own = [line["step"] for line in steps if line["node"] == 2]
    first = back["step"] + 1
    assert own[-(last - first + 1) :] == list(range(first, last + 1))  # to the end, with the others
    missed = [line["step"] for line in steps if line["node"] != 2 and 2 in line.get("missing", [])]
    assert max(missed, default=0) <= back["step"] and last > first
    files = sorted((ran.run() / "snapshots" / f"step-{last:06d}").glob("node-*.safetensors"))
    x = np.stack([load_file(file)["x"] for file in files])
    assert len(x) == 3
    assert np.abs(x[2] - x[0]).max() < 0.1 and np.abs(x[0]).max() > 0  # it trains what the others train
    (reason,) = [reason for reason in ran.summary()["reasons"] if "node 2 was lost" in reason]
    assert reason.endswith(f"it was back at {back['t_s']:.1f} s, after step {back['step']}")
