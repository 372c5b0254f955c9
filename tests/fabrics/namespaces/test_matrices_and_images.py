"""Products of matrices and images over real TCP: the same bits as on the virtual clock, and the bytes foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gannet.node.config import NodeConfig
from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from gannet.node.traffic.exchange import exchange_traffic
from tests.support.gannet import QUICK, Ran, gannet

pytestmark = pytest.mark.real("runs")

NODES = 4
ARMS: dict[str, Any] = {
    "power": {"algorithm": {"name": "power-gossip"}},
    "md-gan": {"algorithm": {"name": "md-gan", "batches": 2, "swap_every": 3}, "codec": "fp16"},
}


def states(ran: Ran, arm: str) -> np.ndarray:
    files = sorted((ran.run(arm) / "snapshots" / "step-000006").glob("node-*.safetensors"))
    assert len(files) == NODES
    return np.stack([load_file(file)["x"] for file in files])


def test_the_same_bits_on_every_fabric_and_the_bytes_foretold(tmp_path: Path) -> None:
    real = gannet(tmp_path / "real", ["compare"], arms=ARMS, nodes=NODES)
    virtual = gannet(tmp_path / "virtual", ["compare", "--fabric", "virtual"], arms=ARMS, nodes=NODES, pace_ms=10)
    assert real.status == virtual.status == 0, real.output + virtual.output
    sampler = build_sampler(TaskConfig.model_validate(QUICK["task"]), DataConfig())
    for arm, override in ARMS.items():
        x = states(real, arm)
        np.testing.assert_array_equal(x, states(virtual, arm))
        assert not (x[1:] == x[0]).all(axis=1).any()
        config = NodeConfig.model_validate({"run": "test", "batch": QUICK["batch"], **override})
        expected = 6 * sum(exchange_traffic(config, NODES, sampler.size, 0, sampler.layout).sent)
        for ran in (real, virtual):
            summary = ran.summary(arm)
            assert summary["bytes_codec"] == pytest.approx(expected, abs=6 * NODES)  # means in whole bytes
            assert summary["refused"] == {} and summary["missing_messages"] == 0
        codec, grpc, interface = (real.summary(arm)[f"bytes_{layer}"] for layer in ("codec", "grpc", "interface"))
        assert codec <= grpc <= 1.03 * codec + 10_000
        assert 1.03 * grpc <= interface <= 1.3 * grpc + 100_000
