"""A real node whose numbers go wrong once: the others lose it, or it is reset, or the run ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.gannet import Ran, gannet

pytestmark = pytest.mark.real("runs")

TASK = """
from pathlib import Path

import torch
from torch import nn

from gannet import Settings, Task


class Once(Settings):
    mark: str


class GoesWrong(Task):
    Settings = Once
    uses_data = False
    calls = 0

    def networks(self):
        self.point = nn.Linear(4, 1)
        return {"point": self.point}

    def minibatch(self):
        return self.noise(self.context.batch, 4)

    def losses(self, batch):
        self.calls += 1
        loss = (self.point(batch) - batch.sum(1, keepdim=True)).square().mean()
        if self.context.rank == 2 and self.calls == 20 and not Path(self.settings.mark).exists():
            Path(self.settings.mark).touch()
            loss = loss * float("nan")
        return {"point": loss}

    def sample(self, n):
        return torch.zeros(n, *self.context.image_shape)
"""


def run(folder: Path, **changes: Any) -> tuple[Ran, list[dict[str, Any]]]:
    """The run, and what its links.jsonl has of lost and returned nodes."""
    (folder / "goes_wrong.py").write_text(TASK)
    task = {"name": "python", "file": "goes_wrong.py", "settings": {"mark": str(folder / "mark")}}
    settings = {"nodes": 3, "task": task, "algorithm": {"name": "dp-oadam"}, "score": None, "pace_ms": 50}
    ran = gannet(folder, ["run"], **{**settings, **changes})
    assert (folder / "mark").exists(), ran.output
    lines = [json.loads(line) for line in (ran.run() / "links.jsonl").read_text().splitlines()]
    return ran, [line for line in lines if str(line.get("event")).startswith("node-")]


def test_the_others_continue_without_it(tmp_path: Path) -> None:
    ran, (lost,) = run(tmp_path, stop={"steps": 60})
    assert ran.status == 0 and "node 2 was lost: rank 2: the gradient is not finite" in ran.output
    assert (lost["event"], lost["node"]) == ("node-lost", 2)
    summary = ran.summary()
    assert summary["status"] == "finished" and summary["steps"] == 60 and not summary["trusted"]
    assert any("node 2 was lost" in reason and "not finite" in reason for reason in summary["reasons"])
    assert not summary["refused"]


def test_it_is_reset_where_the_spec_says_so(tmp_path: Path) -> None:
    ran, (lost, back) = run(tmp_path, stop={"seconds": 20}, on_not_finite="reset")
    assert ran.status == 0, ran.output
    assert (lost["node"], back["node"], back["event"]) == (2, 2, "node-returned")
    steps = ran.steps()
    last = max(line["step"] for line in steps)
    own = [line["step"] for line in steps if line["node"] == 2]
    assert own[-(last - back["step"]) :] == list(range(back["step"] + 1, last + 1))
    files = sorted((ran.run() / "snapshots" / f"step-{last:06d}").glob("node-*.safetensors"))
    x = np.stack([load_file(file)["x"] for file in files])
    assert x.shape[0] == 3 and np.isfinite(x).all() and not ran.summary()["trusted"]


def test_the_run_ends_where_the_spec_says_so(tmp_path: Path) -> None:
    ran, lost = run(tmp_path, stop={"steps": 60}, on_not_finite="stop")
    assert ran.status != 0 and not lost
    assert "node 2: rank 2: the gradient is not finite" in ran.summary()["reason"]
