"""`on_loss: reform`: those who are left form the average again, and all end with the same bits.

The truth is a reference that knows neither messages nor rings: all nodes' own steps, each followed by a plain mean
over the nodes that are in it. A node that is killed during an average may be in it or not, the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gannet.fabrics.virtual.faults import AtAwait, Fault, Kill, Pause
from gannet.node.config import NodeConfig
from gannet.node.training.optimizers import OAdam
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

WORLD, STEPS = 4, 3
RING = {"name": "cp-oadam", "collective": "ring"}
SERVER = {"name": "cp-oadam", "collective": "server"}
GRADIENTS = {"name": "cp-oadam", "collective": "ring", "average": "gradients"}
DILOCO = {"name": "diloco", "collective": "ring", "every": 1}
METHODS = [RING, SERVER, GRADIENTS, DILOCO, {**RING, "every": 2}]
SPREAD = 0.3  # the nodes' fields differ, so that a mean over others differs


def game(rank: int) -> BilinearGame:
    return BilinearGame(rank, noise=0.1, spread=SPREAD)


def run(algorithm: dict[str, Any], faults: Sequence[Fault], world: int = WORLD, steps: int = STEPS) -> Memory:
    job = virtual_job(algorithm, world, steps, on_loss="reform", exchange={"segment_bytes": 8})
    memory, outcome = play(job, [game(rank) for rank in range(world)], faults)
    assert outcome.status == "finished", outcome.reason
    assert not memory.refusals
    return memory


def survivors(memory: Memory, killed: set[int], world: int = WORLD, steps: int = STEPS) -> list[int]:
    """All who are left have made all steps, and where their x is an average it is the same to the bit."""
    left = sorted(set(range(world)) - killed)
    for rank in left:
        assert [each.step for each in memory.steps[rank]] == list(range(1, steps + 1)), rank
    return left


def reference(algorithm: dict[str, Any], groups: Sequence[Sequence[int]], world: int = WORLD) -> Tensor:
    """x of the first node of the last group, where the nodes of groups[i] average with each other at average i."""
    config = NodeConfig.model_validate({"run": "test", "algorithm": algorithm})
    games = [game(rank) for rank in range(world)]
    x = [each.initial() for each in games]
    oadams = [OAdam(each, config.optimizer, start) for each, start in zip(games, x, strict=True)]
    every = algorithm.get("every", 1)
    for group in groups:
        for number in range(every):
            for rank in group:
                g = games[rank].gradient(x[rank])
                if algorithm.get("average") == "gradients":
                    x[rank] = g.field
                else:
                    x[rank] = oadams[rank].step(x[rank], g)
            if number == every - 1:
                break
        mean = torch.from_numpy(np.mean([x[rank].double().numpy() for rank in group], axis=0)).float()
        for rank in group:
            x[rank] = mean
    return x[groups[-1][0]]


@pytest.mark.parametrize("algorithm", METHODS, ids=lambda how: "-".join(map(str, how.values())))
@pytest.mark.parametrize("victim", [0, 2])
def test_wherever_a_node_dies_all_others_have_the_same_bits(algorithm: dict[str, Any], victim: int) -> None:
    every = algorithm.get("every", 1)
    number, reached = 1, True
    while reached:
        memory = run(algorithm, [AtAwait(victim, number, Kill(victim, 0.0, notice_s=0.03))])
        reached = any(line["event"] == "node-lost" for line in memory.link_lines)
        left = survivors(memory, {victim} if reached else set())
        for step in range(every, STEPS + 1, every):
            first = memory.snapshots[step][left[0]]
            assert all(memory.snapshots[step][rank].equal(first) for rank in left), (number, step)
        number += 1
    assert number > 8


@pytest.mark.parametrize("algorithm", [RING, SERVER], ids=["ring", "server"])
@pytest.mark.parametrize("victim", [0, 3])
def test_the_average_is_over_those_who_are_left_from_the_step_of_the_loss_on(
    algorithm: dict[str, Any], victim: int
) -> None:
    left = [rank for rank in range(WORLD) if rank != victim]
    whole = list(range(WORLD))
    truths = [reference(algorithm, [whole] * before + [left] * (STEPS - before)) for before in range(STEPS + 1)]
    found = set()
    for number in range(1, 150, 3):
        memory = run(algorithm, [AtAwait(victim, number, Kill(victim, 0.0))])
        if not memory.link_lines:
            break
        x = memory.snapshots[STEPS][left[0]]
        near = [before for before, truth in enumerate(truths) if torch.allclose(x, truth, rtol=0, atol=1e-6)]
        assert len(near) == 1, (number, near)
        found |= set(near)
    assert found == set(range(STEPS + 1))


@pytest.mark.parametrize("algorithm", [RING, SERVER, DILOCO], ids=["ring", "server", "diloco"])
@pytest.mark.parametrize("notices", [(0.0, 0.0), (0.05, 0.05), (0.2, 0.01)])
def test_two_losses_close_together_and_one_while_the_average_is_formed_again(
    algorithm: dict[str, Any], notices: tuple[float, float]
) -> None:
    every = algorithm.get("every", 1)
    for first, later in product((0.05, 0.21, 0.4), (0.0, 0.03, 0.06, 0.11, 0.17)):
        kills = [Kill(0, first, notice_s=notices[0]), Kill(2, first + later, notice_s=notices[1])]
        memory = run(algorithm, kills)
        lost = {line["node"] for line in memory.link_lines if line["event"] == "node-lost"}
        left = survivors(memory, lost)
        for step in range(every, STEPS + 1, every):
            assert all(memory.snapshots[step][rank].equal(memory.snapshots[step][left[0]]) for rank in left)


@pytest.mark.parametrize("algorithm", [RING, SERVER], ids=["ring", "server"])
def test_losses_down_to_one_node(algorithm: dict[str, Any]) -> None:
    memory = run(algorithm, [Kill(0, 0.1), Kill(3, 0.3), Kill(1, 0.5)], steps=12)
    assert survivors(memory, {0, 1, 3}, steps=12) == [2]


@pytest.mark.parametrize("algorithm", [RING, SERVER], ids=["ring", "server"])
def test_a_node_that_is_slow_while_others_leave_is_not_left_alone(algorithm: dict[str, Any]) -> None:
    for number in range(20, 100, 4):
        faults = [AtAwait(1, number, Pause(1, 0.0, 0.5)), AtAwait(2, number + 5, Kill(2, 0.0, notice_s=0.3))]
        memory = run(algorithm, faults)
        lost = {line["node"] for line in memory.link_lines if line["event"] == "node-lost"}
        left = survivors(memory, lost)
        assert all(memory.snapshots[STEPS][rank].equal(memory.snapshots[STEPS][left[0]]) for rank in left)


@pytest.mark.parametrize("algorithm", METHODS, ids=lambda how: "-".join(map(str, how.values())))
def test_without_a_loss_no_bit_is_another(algorithm: dict[str, Any]) -> None:
    calm, _ = play(virtual_job(algorithm, WORLD, STEPS), [game(rank) for rank in range(WORLD)])
    assert np.array_equal(run(algorithm, []).states(STEPS), calm.states(STEPS))
