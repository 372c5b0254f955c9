"""Real processes that are killed in a run whose average is formed again by those who are left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.fabrics.namespaces.test_returning import events, lines
from tests.support.gannet import Ran, node_process, start
from tests.support.patience import wait_until

pytestmark = pytest.mark.real("runs")


@pytest.mark.parametrize(("collective", "victim"), [("ring", 2), ("server", 0)])
def test_those_who_are_left_form_the_average_again(tmp_path: Path, collective: str, victim: int) -> None:
    algorithm = {"name": "cp-oadam", "collective": collective}
    more = {"algorithm": algorithm, "on_loss": "reform", "pace_ms": 50, "stop": {"steps": 150}, "score": None}
    process = start(tmp_path, ["run"], nodes=4, **more)
    wait_until("20 steps are made", lambda: len(lines(tmp_path, "steps.jsonl")) > 80 or None)
    os.kill(node_process(str(tmp_path), victim), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    ran = Ran(process.returncode, output, tmp_path)
    assert ran.status == 0, output
    assert [line["node"] for line in events(tmp_path, "node-lost")] == [victim]
    left = {rank for rank in range(4) if rank != victim}
    ends = {rank: max(line["step"] for line in ran.steps() if line["node"] == rank) for rank in range(4)}
    assert {ends[rank] for rank in left} == {150} and ends[victim] < 150, ends
    files = (ran.run() / "snapshots" / "step-000150").glob("node-*.safetensors")
    x = [load_file(file)["x"] for file in sorted(files)]
    assert len(x) == 3 and all(np.array_equal(each, x[0]) for each in x)
