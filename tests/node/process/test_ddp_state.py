"""DDP's state: a fresh group that takes it over averages with the bits of the group that was never left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gannet.node.config import ExchangeConfig
from gannet.node.layout import TensorSpec
from gannet.node.methods.ddp import DdpConfig
from tests.support.gloo_world import in_a_world
from tests.support.ports import free_ports

G, D = "generator", "discriminator"
LAYOUT = (
    TensorSpec("generator.weight", (12, 10), 0, G),
    TensorSpec("generator.bias", (4,), 120, G),
    TensorSpec("discriminator.weight", (12, 10), 124, D),
)
SIZE, STEPS, WORLD = 244, 9, 2
ACTIVE = ((G, D), (G, D), (G, D), (G,), (D,), (G, D), (D,), (G, D), (G, D))  # by step
POWERSGD: dict[str, Any] = {"name": "ddp", "hook": "powersgd", "powersgd_rank": 2, "start_powersgd_iter": 2}
CUTS = [
    ({"name": "ddp"}, 4),
    ({"name": "ddp", "hook": "fp16"}, 4),
    (POWERSGD, 1),  # before it compresses: there is no memory yet
    (POWERSGD, 3),
    (POWERSGD, 5),  # one player has just sat out a step
]


def gradient(rank: int, step: int) -> Tensor:
    """Zero for players that sit out, and for all in the first compressed step: Q's columns are drawn again later."""
    field = np.random.default_rng([rank, step]).standard_normal(SIZE).astype(np.float32)
    for player, where in ((G, slice(0, 124)), (D, slice(124, SIZE))):
        if player not in ACTIVE[step] or step == 2:
            field[where] = 0
    return torch.from_numpy(field)


def train(rank: int, world: int, ports: list[int]) -> list[Any]:
    """By cut: the means of the whole, those after the cut by another group, their states at the end, the first's."""
    from gannet.node.process.torch_ddp import DdpMean  # only in processes that have imported it already

    found = []
    for cut, (config, at) in enumerate(CUTS):
        states: list[dict[str, np.ndarray]] = []
        means: list[list[np.ndarray]] = []
        for first in (0, at):
            mean = DdpMean(
                DdpConfig.model_validate(config), LAYOUT, rank, world, ExchangeConfig(), lambda source, step: None
            )
            mean.join(f"127.0.0.1:{ports[2 * cut + bool(first)]}", "lo")
            if first:
                mean.load_state({name: torch.from_numpy(value.copy()) for name, value in states[0].items()})
            means.append([])
            for step in range(first, STEPS):
                means[-1].append(mean.average(gradient(rank, step), None, ACTIVE[step])[0].numpy())
                if step + 1 in (at, STEPS):
                    states.append({name: value.clone().numpy() for name, value in mean.state().items()})
            mean.settle()
            mean.close()
        found.append((*means, *states))
    return found


@pytest.fixture(scope="module")
def by_rank() -> list[list[Any]]:
    results = in_a_world(WORLD, train, free_ports(2 * len(CUTS)))
    assert all(isinstance(result, list) for result in results), results
    return results


@pytest.mark.parametrize("cut", range(len(CUTS)), ids=lambda cut: f"{CUTS[cut][0].get('hook')}-{CUTS[cut][1]}")
def test_a_group_that_takes_over_has_the_same_bits(by_rank: list[list[Any]], cut: int) -> None:
    for rank in range(WORLD):
        whole, after, at_cut, end, end_after = by_rank[rank][cut]
        assert len(whole) == STEPS and len(after) == STEPS - CUTS[cut][1]
        np.testing.assert_array_equal(np.stack(whole[CUTS[cut][1] :]), np.stack(after))
        assert end.keys() == end_after.keys() and int(end["step"]) == STEPS
        assert int(at_cut["step"]) == CUTS[cut][1]
        for name, value in end.items():
            np.testing.assert_array_equal(value, end_after[name], name)


def test_what_is_left_out_would_show(by_rank: list[list[Any]]) -> None:
    """The errors and the matrices differ from step to step, and the errors from node to node."""
    (_, _, at_cut, end, _), (_, _, other, _, _) = by_rank[0][4], by_rank[1][4]
    assert at_cut.keys() == {"step", "iter", "random", "error", "p", "q"}
    assert not np.array_equal(at_cut["error"], end["error"]) and not np.array_equal(at_cut["q"], end["q"])
    assert not np.array_equal(at_cut["error"], other["error"])
    np.testing.assert_array_equal(at_cut["q"], other["q"])
