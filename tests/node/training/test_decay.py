"""The learning rate's linear decay, against optimizers written with the rate of each step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gannet.node.config import OptimizerConfig
from gannet.node.tasks.base import Gradient
from gannet.node.training.optimizers import OPTIMIZERS

PLAYERS = {"generator": slice(0, 3), "discriminator": slice(3, 8)}
TASK: Any = SimpleNamespace(players=PLAYERS, buffers=slice(8, 8))
EVERY = 3  # the generator's turn


def gradients() -> list[Gradient]:
    fields = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    made = []
    for step, field in enumerate(fields):
        generating = step % EVERY == EVERY - 1
        made.append(Gradient(field, ("generator", "discriminator") if generating else ("discriminator",), None, {}))
    return made


@pytest.mark.parametrize("name", ["oadam", "optimistic-sg"])
def test_the_rate_falls_with_the_runs_steps_for_both_players(name: str) -> None:
    config = OptimizerConfig(learning_rate=0.1, learning_rate_discriminator=0.3, decay_steps=10)
    x = torch.ones(8)
    optimizer = OPTIMIZERS[name](TASK, config, x)
    expected, before = np.ones(8), np.zeros(8)
    moment, square, count = np.zeros(8), np.zeros(8), np.zeros(8)
    for step, gradient in enumerate(gradients()):
        rate = np.where(np.arange(8) < 3, 0.1, 0.3) * max(0.0, 1 - step / 10)
        moved = np.ones(8, bool) if len(gradient.active) == 2 else np.arange(8) >= 3
        g = gradient.field.double().numpy()
        if name == "oadam":
            count = np.where(moved, count + 1, count)
            moment = np.where(moved, 0.5 * moment + 0.5 * g, moment)
            square = np.where(moved, 0.9 * square + 0.1 * g * g, square)
            t = np.maximum(count, 1)
            direction = rate * np.sqrt(1 - 0.9**t) / (1 - 0.5**t) * moment / (np.sqrt(square) + 1e-8)
        else:
            direction = rate * g
        expected = np.where(moved, expected - 2 * direction + before, expected)
        before = np.where(moved, direction, before)
        x = optimizer.step(x, gradient)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_without_decay_nothing_changes_and_after_it_nothing_moves() -> None:
    assert [OptimizerConfig().decay(step) for step in (0, 10**9)] == [1.0, 1.0]
    assert [OptimizerConfig(decay_steps=4).decay(step) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
