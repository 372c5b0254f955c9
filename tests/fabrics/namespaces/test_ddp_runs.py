"""PyTorch's DDP in whole runs over real links: the trajectory of our own all-reduce, foretold bytes, a lost node."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gannet.node.data.config import DataConfig
from gannet.node.methods.ddp import DdpConfig, ring_sent_bytes, vectors_of
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from tests.support.gannet import QUICK, Ran, gannet, in_folder, node_process, start

pytestmark = pytest.mark.real("runs")

ARMS: dict[str, Any] = {
    "ours": {"algorithm": {"name": "cp-oadam", "collective": "ring", "average": "gradients"}},
    "none": {"algorithm": {"name": "ddp"}},
    "powersgd": {"algorithm": {"name": "ddp", "hook": "powersgd"}},
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    ran = gannet(tmp_path_factory.mktemp("real"), ["compare"], arms=ARMS)
    assert ran.status == 0, ran.output
    return ran


def states(ran: Ran, arm: str, step: int) -> np.ndarray:
    files = sorted((ran.run(arm) / "snapshots" / f"step-{step:06d}").glob("node-*.safetensors"))
    assert len(files) == 3
    return np.stack([load_file(file)["x"] for file in files])


def test_ddp_goes_the_way_of_our_own_all_reduce(real: Ran) -> None:
    """The task has running statistics: they too are averaged. PowerSGD leaves it when it begins to compress."""
    first = states(real, "ours", 3)[0]
    for step in (3, 6):
        ours, none, powersgd = (states(real, arm, step) for arm in ARMS)
        moved = np.abs(ours[0] - states(real, "ours", 0)[0]).max()
        assert (none == none[0]).all() and (powersgd == powersgd[0]).all()
        np.testing.assert_allclose(none[0], ours[0], rtol=0, atol=1e-3 * moved)
        assert np.abs(powersgd[0] - ours[0]).max() > 1e-2 * moved
    assert not np.array_equal(first, states(real, "ours", 6)[0])


@pytest.mark.parametrize("arm", ["none", "powersgd"])
def test_the_formula_and_the_interface_agree(real: Ran, arm: str) -> None:
    layout = build_sampler(TaskConfig.model_validate(QUICK["task"]), DataConfig()).layout
    config, summary = DdpConfig.model_validate(ARMS[arm]["algorithm"]), real.summary(arm)
    vectors = [vector for step in range(6) for vector in vectors_of(config, layout, step)]
    codec, interface = summary["bytes_codec"], summary["bytes_interface"]
    assert codec == sum(ring_sent_bytes(*vector, rank, 3) for vector in vectors for rank in range(3))
    assert summary["bytes_grpc"] == 0
    # Its links may have been disturbed by a busy machine; nothing else may be said against it.
    assert not any(word in reason for reason in summary["reasons"] for word in ("lost", "failed", "missing"))
    # Frames' headers; gloo's own, three a segment, in frames of their own; as many acknowledgements.
    assert 1.03 * codec <= interface <= 1.06 * codec + 12 * 3 * len(vectors) * (3 * 48 + 6 * 66)


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(real: Ran, tmp_path: Path) -> None:
    """Step 3 is the first that PowerSGD compresses: what it left out, and its Q, decide the steps after it."""
    spec = {"algorithm": ARMS["powersgd"]["algorithm"], "stop": {"steps": 3}, "checkpoint_every": 3}
    first = gannet(tmp_path, ["run"], **spec)
    assert first.status == 0, first.output
    ran = in_folder(tmp_path, "resume", "--set", "stop.steps=6")
    assert ran.status == 0, ran.output
    assert ran.summary()["resumed_after"] == [3]
    np.testing.assert_array_equal(states(ran, "run", 6), states(real, "powersgd", 6))


def test_without_a_node_the_run_ends_and_says_why(tmp_path: Path) -> None:
    process = start(tmp_path, ["run"], stop={"steps": 100_000}, algorithm={"name": "ddp"})
    steps = tmp_path / "out" / "run" / "seed-1" / "steps.jsonl"
    end = time.monotonic() + 240
    while not steps.exists() or len(steps.read_text().splitlines()) < 20:
        assert time.monotonic() < end and process.poll() is None, "no steps"
        time.sleep(0.1)
    os.kill(node_process(str(tmp_path), 2), signal.SIGKILL)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1 and "Traceback" not in output
    summary = Ran(1, output, tmp_path).summary()
    assert summary["status"] == "failed" and not summary["trusted"]
    assert "gloo's all-reduce of step" in summary["reason"] and "without rank 2" in summary["reason"]
