"""Quantized gradients over real TCP: the same bits as on the virtual clock, and as many bytes as foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from gannet.node.traffic.exchange import exchange_traffic
from tests.support.gannet import QUICK, Ran, gannet

pytestmark = pytest.mark.real("runs")

CODEC = "qsgd-4bit,raw_below=500"  # of tensors that are all small, some as they are and some quantized
ARMS: dict[str, Any] = {
    collective: {"algorithm": {"name": "cp-oadam", "collective": collective, "average": "gradients"}, "codec": CODEC}
    for collective in ("server", "ring")
}


def states(ran: Ran, arm: str) -> np.ndarray:
    files = sorted((ran.run(arm) / "snapshots" / "step-000006").glob("node-*.safetensors"))
    assert len(files) == 3
    return np.stack([load_file(file)["x"] for file in files])


def test_the_same_bits_on_every_fabric_and_the_bytes_foretold(tmp_path: Path) -> None:
    real = gannet(tmp_path / "real", ["compare"], arms=ARMS)
    virtual = gannet(tmp_path / "virtual", ["compare", "--fabric", "virtual"], arms=ARMS, pace_ms=10)
    assert real.status == virtual.status == 0, real.output + virtual.output
    sampler = build_sampler(TaskConfig.model_validate(QUICK["task"]), DataConfig())
    raw = Split(sampler.layout, CODEC).raw
    assert 0 < raw < sampler.size
    for arm, override in ARMS.items():
        x = states(real, arm)
        assert (x == x[0]).all()
        np.testing.assert_array_equal(x, states(virtual, arm))
        config = NodeConfig.model_validate({"run": "test", **override})
        expected = 6 * sum(exchange_traffic(config, 3, sampler.size, raw).sent)
        for ran in (real, virtual):
            summary = ran.summary(arm)
            # Segments differ with the links, and with them where shares end inside a bucket.
            assert summary["bytes_codec"] == pytest.approx(expected, rel=0.02)
            assert summary["refused"] == {} and summary["missing_messages"] == 0
        codec, grpc, interface = (real.summary(arm)[f"bytes_{layer}"] for layer in ("codec", "grpc", "interface"))
        assert codec <= grpc <= 1.03 * codec + 3000
        assert 1.03 * grpc <= interface <= 1.3 * grpc + 60_000
