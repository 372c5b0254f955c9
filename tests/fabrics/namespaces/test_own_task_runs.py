"""A task of one's own on real nodes: the same bits as on the virtual clock, from the text that the spec read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.support.gannet import ROOT, Ran, gannet

pytestmark = pytest.mark.real("runs")

EXAMPLE = ROOT / "docs" / "examples" / "my_task.py"
SETTINGS: dict[str, Any] = {
    "nodes": 2,
    "task": {"name": "python", "file": EXAMPLE.name, "settings": {"width": 8}},
    "data": {"name": "fashion-mnist-mini", "sharding": "dirichlet", "alpha": 0.5},
    "algorithm": {"name": "dp-oadam", "every": 2},
    "arms": {"gossip": {}, "server": {"algorithm": {"name": "cp-oadam", "every": 3}, "codec": "fp16"}},
    "score": {"points": 2},
}
PLAYERS = {"encoder", "decoder", "critic"}


def run(folder: Path, *options: str, **changes: Any) -> Ran:
    """A comparison of the example, which lies beside its spec as docs/own-task.md has it."""
    folder.mkdir()
    shutil.copy(EXAMPLE, folder)
    ran = gannet(folder, ["compare", *options], **{**SETTINGS, **changes})
    assert ran.status == 0, ran.output
    return ran


def states(ran: Ran, arm: str, step: int) -> np.ndarray:
    files = sorted((ran.run(arm) / "snapshots" / f"step-{step:06}").glob("node-*.safetensors"))
    assert len(files) == 2
    return np.stack([load_file(file)["x"] for file in files])


def test_the_example_gives_the_same_bits_on_real_nodes_and_on_the_virtual_clock(tmp_path: Path) -> None:
    real = run(tmp_path / "real")
    virtual = run(tmp_path / "virtual", "--fabric", "virtual", pace_ms=10)
    for arm in SETTINGS["arms"]:
        start, end = states(real, arm, 3), states(real, arm, 6)
        assert np.isfinite(end).all() and (start != end).any(1).all()
        np.testing.assert_array_equal(start, states(virtual, arm, 3))
        np.testing.assert_array_equal(end, states(virtual, arm, 6))
        of_real, of_virtual = (
            {(line["node"], line["step"]): line["loss"] for line in ran.steps(arm)} for ran in (real, virtual)
        )
        assert of_real == of_virtual and all(set(loss) == PLAYERS for loss in of_real.values())
        scores = [json.loads(line) for line in (real.run(arm) / "scores.jsonl").read_text().splitlines()]
        assert [line["score_name"] for line in scores] == ["squared error of a pixel"] * 2
        recorded = yaml.safe_load((real.run(arm) / "spec.yaml").read_text())
        assert recorded["task"]["source"] == EXAMPLE.read_text(encoding="utf-8")
    assert (states(real, "gossip", 6) != states(real, "server", 6)).any()


def test_what_a_node_raises_in_the_file_ends_the_run_with_the_line(tmp_path: Path) -> None:
    """Nodes are other processes: their mistake has to come back to whoever asked for the run."""
    folder = tmp_path / "wrong"
    folder.mkdir()
    sound, wrong = "batch.images.flatten(1)", "batch.images.flatten(1 + 8 * self.context.rank)"  # rank 0 is right
    text = EXAMPLE.read_text(encoding="utf-8").replace(f"real = {sound}", f"real = {wrong}", 1)
    (folder / EXAMPLE.name).write_text(text, encoding="utf-8")
    settings = {name: value for name, value in SETTINGS.items() if name != "arms"}
    ran = gannet(folder, ["run"], **settings)
    assert ran.status == 1
    summary = ran.summary()
    line = next(number for number, each in enumerate(text.splitlines(), 1) if wrong in each)
    assert summary["status"] == "failed" and f"node 1: my_task.py:{line}: IndexError" in summary["reason"]
