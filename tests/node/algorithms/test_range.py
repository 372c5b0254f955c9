"""What a codec can hold of every node, an average can hold of all; what it cannot hold is said, and of whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gannet.node.config import ExchangeConfig, NodeConfig
from gannet.node.methods.ddp import DdpConfig
from gannet.node.tasks.base import Gradient
from gannet.node.training.meter import Meter
from gannet.node.training.worker import Worker
from tests.support.games import BilinearGame
from tests.support.gloo_world import free_address, in_a_world
from tests.support.runs import play, virtual_job

SIZE = 12


class Shifted(BilinearGame):
    """x_0 of the given size on every node, and a constant field that differs between nodes by a tenth."""

    def __init__(self, rank: int, start: float, slope: float) -> None:
        super().__init__(rank, SIZE // 2)
        random = np.random.default_rng(rank)
        self.start = torch.full((SIZE,), start)
        self.field = torch.from_numpy(slope * random.uniform(0.9, 1.0, SIZE)).float()

    def initial(self) -> Tensor:
        return self.start.clone()

    def gradient(self, x: Tensor) -> Gradient:
        return Gradient(self.field.clone(), ("generator", "discriminator"), None, {})


def run(algorithm: dict[str, Any], start: float, slope: float, world: int, **config: Any) -> tuple[Any, np.ndarray]:
    """(the outcome, x of all nodes after one step)."""
    job = virtual_job(algorithm, world, 1, codec=config.pop("codec", "fp16"), **config)
    memory, outcome = play(job, [Shifted(rank, start, slope) for rank in range(world)])
    return outcome, memory.states(1) if outcome.status == "finished" else np.empty(0)


@pytest.mark.parametrize("collective", ["ring", "server"])
@pytest.mark.parametrize("world", [2, 3, 8, 17])
@pytest.mark.parametrize("size", [20_000.0, 65_000.0])
def test_fp16_averages_what_fp16_holds(collective: str, world: int, size: float) -> None:
    """By np.mean, to fp16's half unit in the last place of every hop: parameters, then gradients."""
    adam = {"learning_rate": 0.01, "beta1": 0.0, "beta2": 0.0}
    method = {"name": "cp-oadam", "collective": collective}
    outcome, states = run(method, size, 1.0, world, optimizer=adam)
    assert outcome.status == "finished", outcome.reason
    np.testing.assert_allclose(states, size, rtol=world * 2**-11)
    assert (states == states[0]).all()

    adam |= {"learning_rate": 0.5, "epsilon": size}  # the first step is then g/(|g| + ε)
    outcome, states = run({**method, "average": "gradients"}, 0.0, size, world, optimizer=adam)
    assert outcome.status == "finished", outcome.reason
    mean = np.mean([Shifted(rank, 0.0, size).field.numpy() for rank in range(world)], axis=0, dtype=np.float64)
    np.testing.assert_allclose(-states[0], mean / (mean + size), rtol=world * 2**-11)


def test_partial_sums_of_normal_size_have_the_bits_of_the_sums() -> None:
    """Powers of two change no digit: x = fp16(fp16(fp16(a) + b) + c …)/N, in the order of the ring."""
    world = 5
    games = [BilinearGame(rank, 10, noise=1.0) for rank in range(world)]
    fields = []
    for game in games:
        g = game.gradient(game.initial()).field
        fields.append(g.numpy())
        game.gradient = lambda x, g=g: Gradient(g.clone(), ("generator", "discriminator"), None, {})  # type: ignore[method-assign]
    adam = {"learning_rate": 0.5, "beta1": 0.0, "beta2": 0.0, "epsilon": 1.0}
    method = {"name": "cp-oadam", "collective": "ring", "average": "gradients"}
    memory, _ = play(virtual_job(method, world, 1, codec="fp16", optimizer=adam), games)
    parts = np.array_split(np.arange(20), world)
    total = np.empty(20, np.float32)
    for first, part in enumerate(parts):  # the first to send it is rank `first`
        total[part] = fields[first][part]
        for hop in range(1, world):
            total[part] = total[part].astype(np.float16).astype(np.float32) + fields[(first + hop) % world][part]
    mean = torch.from_numpy((total / np.float32(world)).astype(np.float16).astype(np.float32))
    expected = games[0].initial() - mean / (mean.abs() + 1.0)
    np.testing.assert_allclose(memory.states(1)[0], expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "cp-oadam", "collective": "ring"},
        {"name": "cp-oadam", "collective": "server"},
        {"name": "dp-oadam"},
        {"name": "dposg"},
        {"name": "gossip-pga"},
        {"name": "deepsqueeze"},
        {"name": "fedgan", "every": 1},
        {"name": "ad-psgd"},
    ],
    ids=str,
)
def test_what_fp16_cannot_hold_is_no_lost_node(algorithm: dict[str, Any]) -> None:
    """A node whose values are too large is named with them, rather than left out of every mix, or taken for gone."""
    outcome, _ = run(algorithm, 70_000.0, 1.0, 4)
    assert outcome.status == "failed"
    assert "codec fp16 cannot hold 70000" in outcome.reason and "use codec bf16 or fp32" in outcome.reason
    assert "lost" not in outcome.reason and "without rank" not in outcome.reason
    assert run(algorithm, 70_000.0, 1.0, 4, codec="bf16")[0].status == "finished"


@pytest.mark.parametrize("algorithm", [{"name": "cp-oadam"}, {"name": "dp-oadam"}], ids=str)
def test_values_that_are_no_numbers_are_named_as_such(algorithm: dict[str, Any]) -> None:
    outcome, _ = run(algorithm, float("inf"), 1.0, 4, codec="fp32")
    assert outcome.status == "failed" and "values to be sent in round 1 are not finite" in outcome.reason


def ddp_with_fp16(rank: int, world: int, address: str, slope: float) -> str:
    from gannet.node.process.torch_ddp import DdpMean  # only in processes that have imported it already
    from gannet.node.process.wall_clock import WallClock

    config = DdpConfig.model_validate({"name": "ddp", "hook": "fp16"})
    task = Shifted(rank, 0.0, slope * (rank == 1))
    worker = Worker(NodeConfig.model_validate({"run": "test", "algorithm": config}), rank, world, task)
    mean = DdpMean(config, task.layout, rank, world, ExchangeConfig(), lambda source, step: None)
    mean.join(address, "lo")

    async def step() -> str:
        try:
            await anext(worker.algorithm(worker))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "finished"

    said = WallClock(None, Meter(lambda: 0.0), 0.0, mean).run(step())  # type: ignore[arg-type]
    mean.close()
    return said


def test_ddps_fp16_hook_is_named_by_every_node_where_it_cannot_hold_one_nodes_gradient() -> None:
    assert in_a_world(2, ddp_with_fp16, free_address(), 65_000.0) == ["finished", "finished"]
    for said in in_a_world(2, ddp_with_fp16, free_address(), 75_000.0):
        assert said.startswith("OutOfRange: ") and "hook fp16 cannot hold some node's values" in said
