"""Players that take turns: what an algorithm remembers of one that sits out a step is there when it moves again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gannet.node.algorithms.diloco import Outer
from gannet.node.methods.diloco import DilocoConfig
from tests.support.games import TurnsGame
from tests.support.runs import play, virtual_job

G, D = "generator", "discriminator"
RATE, SIZE, HALF = 0.1, 54, 27
WHERE = {G: slice(0, HALF), D: slice(HALF, SIZE)}
TURNS = ((G,), (D,), (D,), (G, D), (D,))


def trajectory(algorithm: dict[str, Any], turns: tuple[tuple[str, ...], ...], world: int, steps: int) -> np.ndarray:
    """(steps, world, size), in a world whose nodes' fields differ."""
    job = virtual_job(algorithm, world, steps, optimizer={"learning_rate": RATE, "beta1": 0.5, "beta2": 0.9})
    memory, outcome = play(job, [TurnsGame(rank, turns, noise=0.1, spread=0.3) for rank in range(world)])
    assert outcome.status == "finished"
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


@pytest.mark.parametrize("turns", [((G, D),), ((G,), (D,)), TURNS], ids=["together", "in turn", "uneven"])
def test_dposg_on_one_node_is_each_players_own_optimistic_gradient(turns: tuple[tuple[str, ...], ...]) -> None:
    """z_p ← z_p − 2η g_p(z) + η ĝ_p at each move of p, ĝ_p its move's before, and x_p = z_p + η ĝ_p (z_0 as X_0)."""
    ours = trajectory({"name": "dposg"}, turns, 1, 20)[:, 0]
    game = TurnsGame(0, turns, noise=0.1, spread=0.3)
    matrix, shift = game.matrix.double().numpy(), game._shift.double().numpy()
    z, before, calls = game.initial().double().numpy(), np.zeros(SIZE), 0

    def field() -> tuple[np.ndarray, tuple[str, ...]]:
        nonlocal calls
        calls += 1
        noise = 0.1 * game._random.standard_normal(SIZE)
        return np.concatenate([matrix @ z[HALF:], -(matrix.T @ z[:HALF])]) + noise + shift, turns[
            (calls - 1) % len(turns)
        ]

    g, active = field()  # ĝ(Z_0) moves Z alone
    for player in active:
        z[WHERE[player]] -= RATE * g[WHERE[player]]
        before[WHERE[player]] = g[WHERE[player]]
    for x in ours:
        g, active = field()
        for player in active:
            p = WHERE[player]
            z[p] += RATE * (before[p] - 2 * g[p])
            before[p] = g[p]
        np.testing.assert_allclose(x, z + RATE * before, rtol=1e-3, atol=1e-4)


METHODS: list[dict[str, Any]] = [
    {"name": "dp-oadam"},
    {"name": "dp-oadam", "overlap": True},
    {"name": "dposg"},
    {"name": "cp-oadam", "collective": "ring"},
    {"name": "cp-oadam", "average": "gradients"},
    {"name": "gossip-pga", "global_every": 3},
    {"name": "sgp"},
    {"name": "choco"},
    {"name": "deepsqueeze"},
    {"name": "diloco", "every": 1},
    {"name": "diloco", "every": 3},
    {"name": "fedgan", "every": 2},
    {"name": "power-gossip"},
]


@pytest.mark.parametrize("algorithm", METHODS, ids=str)
def test_who_sits_out_is_moved_by_nobodys_memory(algorithm: dict[str, Any]) -> None:
    """The discriminator moves in the first steps alone, as a teacher in its pretraining: then its mean stays."""
    moves, steps = 6, 30
    turns = (*((G, D),) * moves, *((G,),) * 100)
    states = trajectory(algorithm, turns, 4, steps).mean(axis=1)[:, WHERE[D]]
    still = states[2 * moves :]
    assert np.abs(states[moves - 1] - states[0]).max() > 0.01
    np.testing.assert_allclose(still, np.broadcast_to(still[0], still.shape), atol=2e-5)


def test_dilocos_outer_step_is_torchs_sgd_of_each_player_that_has_moved() -> None:
    """With nesterov=True, called for a player only where the nodes' mean difference has anything of it."""
    config = DilocoConfig.model_validate({"name": "diloco", "outer_learning_rate": 0.7, "outer_momentum": 0.9})
    random = torch.Generator().manual_seed(3)
    theta = torch.randn(SIZE, generator=random)
    ours = Outer(theta, WHERE.values(), slice(SIZE, SIZE), config)
    theirs = {player: torch.nn.Parameter(theta[where].clone()) for player, where in WHERE.items()}
    sgd = {player: torch.optim.SGD([p], lr=0.7, momentum=0.9, nesterov=True) for player, p in theirs.items()}
    for active in TURNS * 3:
        delta = torch.zeros(SIZE)
        for player in active:
            delta[WHERE[player]] = torch.randn(HALF, generator=random)
            theirs[player].grad = delta[WHERE[player]].clone()
            sgd[player].step()
        torch.testing.assert_close(ours.step(delta), torch.cat([theirs[G], theirs[D]]).detach())
