"""The min-max game as a task: its field, its saddle point, its stream of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gannet.node.config import NodeConfig
from gannet.node.tasks.config import GameConfig
from gannet.node.tasks.games.game import GameTask
from tests.support.runs import play, virtual_job


def test_the_field_is_the_gradient_of_the_game() -> None:
    """Against automatic differentiation: descent for u, ascent for v; the padding has none."""
    task = GameTask(GameConfig(name="game", dimension=5, curvature=0.3, padding=7), 0, 3, seed=1)
    x = task.initial()
    assert x.shape == (17,) and not x[10:].any()
    u, v = (x[part].clone().requires_grad_() for part in (slice(0, 5), slice(5, 10)))
    (u @ v + 0.15 * (u @ u - v @ v)).backward()
    assert u.grad is not None and v.grad is not None
    expected = torch.cat([u.grad, -v.grad, torch.zeros(7)])
    torch.testing.assert_close(task.gradient(x).field, expected, atol=1e-5, rtol=1e-5)


def test_the_mean_of_all_nodes_games_has_its_saddle_at_zero() -> None:
    config = GameConfig(name="game", dimension=6, spread=2.0)
    tasks = [GameTask(config, rank, 5, seed=3) for rank in range(5)]
    fields = torch.stack([task.gradient(torch.zeros(12)).field for task in tasks])
    assert fields.abs().max() > 1 and fields.mean(dim=0).abs().max() < 1e-6
    assert tasks[0].distance(tasks[0].initial()) == pytest.approx(float(tasks[3].initial().norm()))


def test_noise_is_a_stream_of_its_own_for_each_node_and_goes_on_where_it_stopped() -> None:
    config = GameConfig(name="game", dimension=400, noise=0.5)
    first, other = (GameTask(config, rank, 2, seed=1) for rank in range(2))
    x = torch.zeros(800)
    drawn = first.gradient(x).field
    assert 0.45 < drawn.std() < 0.55 and not torch.equal(drawn, other.gradient(x).field)
    state = first.state()
    then = first.gradient(x).field
    first.load_state(state)
    assert torch.equal(first.gradient(x).field, then) and not torch.equal(then, drawn)


def test_a_run_is_told_of_it_in_its_config() -> None:
    game = {"name": "game", "dimension": 8, "noise": 0.1, "curvature": 0.5, "spread": 0.5, "padding": 40}
    job = virtual_job({"name": "cp-oadam"}, 4, 400, task=game, optimizer={"learning_rate": 0.01}, snapshot_every=400)
    memory, outcome = play(job)
    assert outcome.status == "finished"
    distances = [np.linalg.norm(memory.states(step)[0, :16]) for step in (0, 400)]
    assert distances[1] < 0.3 * distances[0]
    assert memory.steps[1][0].codec_bytes == 4 * 56  # node 0 is the server
    with pytest.raises(ValueError, match="dimensions"):
        NodeConfig.model_validate(
            {"run": "x", "algorithm": {"name": "local"}, "task": {"name": "game", "dimensions": 3}}
        )
