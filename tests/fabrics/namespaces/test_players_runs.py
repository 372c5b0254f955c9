"""Players exchanged each in its own way over real TCP: the same bits as on the virtual clock, the bytes foretold."""

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
from gannet.node.traffic.players import bytes_per_step, traffic_by_player
from tests.support.gannet import QUICK, Ran, gannet

pytestmark = pytest.mark.real("runs")

# Of a discriminator whose tensors are all small, some as they are and some quantized.
SETTINGS: dict[str, Any] = {
    "algorithm": {"name": "dp-oadam", "every": 2},
    "players": {
        "generator": {"algorithm": {"name": "cp-oadam", "collective": "ring", "every": 3}, "codec": "fp16"},
        "discriminator": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit,raw_below=500"},
    },
}


def states(ran: Ran) -> np.ndarray:
    files = sorted((ran.run("run") / "snapshots" / "step-000006").glob("node-*.safetensors"))
    assert len(files) == 3
    return np.stack([load_file(file)["x"] for file in files])


def test_the_same_bits_on_every_fabric_and_the_bytes_foretold(tmp_path: Path) -> None:
    real = gannet(tmp_path / "real", ["run"], **SETTINGS)
    virtual = gannet(tmp_path / "virtual", ["run", "--fabric", "virtual"], **SETTINGS, pace_ms=10)
    assert real.status == virtual.status == 0, real.output + virtual.output
    x = states(real)
    np.testing.assert_array_equal(x, states(virtual))
    sampler = build_sampler(TaskConfig.model_validate(QUICK["task"]), DataConfig())
    generator, critic = sampler.players["generator"], sampler.players["discriminator"]
    assert (x[0, generator] == x[1, generator]).all() and (x[0, critic] != x[1, critic]).any()
    traffics = traffic_by_player(NodeConfig.model_validate({"run": "test", **SETTINGS}), 3, sampler.layout)
    for ran in (real, virtual):
        summary = ran.summary("run")
        assert summary["bytes_codec"] == 6 * sum(map(bytes_per_step, traffics.values()))
        assert summary["refused"] == {} and summary["missing_messages"] == 0
        of = {name: facts["bytes_per_step"] for name, facts in summary["players"].items()}
        assert of == {name: bytes_per_step(traffic) for name, traffic in traffics.items()}
        assert summary["players"]["generator"]["every"] == 3
    codec, grpc, interface = (real.summary("run")[f"bytes_{layer}"] for layer in ("codec", "grpc", "interface"))
    assert codec <= grpc <= 1.03 * codec + 6000
    assert 1.03 * grpc <= interface <= 1.3 * grpc + 60_000
