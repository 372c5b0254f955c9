"""Runs of real processes that begin from a file: every node has its values, and the bits are the virtual clock's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from tests.support.gannet import QUICK, Ran, gannet

pytestmark = pytest.mark.real("runs")

ARMS: dict[str, Any] = {
    "gossip": {},
    "choco": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit"},
    "ddp": {"algorithm": {"name": "ddp"}},
    "one": {"start_from": {"players": {"generator": "w.safetensors"}}},
}


def states(ran: Ran, arm: str, step: int) -> Tensor:
    files = sorted((ran.run(arm) / "snapshots" / f"step-{step:06d}").glob("node-*.safetensors"))
    assert len(files) == 3
    return torch.stack([load_file(file)["x"] for file in files])


def test_every_node_begins_with_the_files_values(tmp_path: Path) -> None:
    task = build_sampler(TaskConfig.model_validate(QUICK["task"]), DataConfig())
    random = torch.Generator().manual_seed(1)
    tensors = {spec.name: 0.1 * torch.rand(spec.shape, generator=random) for spec in task.layout}
    truth = torch.cat([tensors[spec.name].flatten() for spec in task.layout])
    for name in ("real", "virtual"):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "w.safetensors")
    real = gannet(tmp_path / "real", ["compare"], arms=ARMS, start_from="w.safetensors")
    assert real.status == 0, real.output
    for arm in ("gossip", "choco", "ddp"):
        assert (states(real, arm, 0) == truth).all()
        assert (states(real, arm, 6) != truth).any()
    where = task.players["generator"]
    assert (states(real, "one", 0)[:, where] == truth[where]).all()
    assert (states(real, "one", 0) != truth).any()
    modelled = {name: arm for name, arm in ARMS.items() if name != "ddp"}
    virtual = gannet(
        tmp_path / "virtual",
        ["compare", "--fabric", "virtual"],
        arms=modelled,
        start_from="w.safetensors",
        pace_ms=10,
    )
    assert virtual.status == 0, virtual.output
    for arm in modelled:
        assert torch.equal(states(real, arm, 6), states(virtual, arm, 6)), arm
