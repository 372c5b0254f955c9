"""Optimizers: players that move together have the bits that each has when it moves alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from gannet.node.config import OptimizerConfig
from gannet.node.tasks.base import AnyTask, Gradient
from gannet.node.training.optimizers import OPTIMIZERS

NAMES = ("generator", "discriminator")


def task_of(sizes: tuple[int, int]) -> AnyTask:
    players = {NAMES[0]: slice(0, sizes[0]), NAMES[1]: slice(sizes[0], sum(sizes))}
    return cast(AnyTask, SimpleNamespace(players=players, buffers=slice(sum(sizes), sum(sizes))))


def gradient(size: int, active: tuple[str, ...], draws: torch.Generator) -> Gradient:
    return Gradient(torch.randn(size, generator=draws), active, None, {})


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (7, 26), (33, 31), (1000, 1013), (40_001, 70_003)])
@pytest.mark.parametrize("rates", [{}, {"learning_rate_discriminator": 0.02}])
def test_players_together_have_the_bits_of_each_alone(
    name: str, sizes: tuple[int, int], rates: dict[str, Any]
) -> None:
    """Each alone: an optimizer over a task with that player only."""
    config, size, draws = OptimizerConfig.model_validate(rates), sum(sizes), torch.Generator().manual_seed(1)
    both = task_of(sizes)
    x = torch.randn(size, generator=draws)
    together = OPTIMIZERS[name](both, config, x)
    alone = {
        player: OPTIMIZERS[name](
            cast(AnyTask, SimpleNamespace(players={player: where}, buffers=both.buffers)), config, x
        )
        for player, where in both.players.items()
    }
    expected = x
    for active in (NAMES, NAMES, NAMES[1:], NAMES, NAMES[:1], NAMES):
        g = gradient(size, active, draws)
        x = together.step(x, g)
        for player, optimizer in alone.items():  # one that sits out counts the step for its rate's decay only
            optimizer_moves = (player,) if player in active else ()
            expected = optimizer.step(expected, g._replace(active=optimizer_moves))
        assert x.equal(expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_continues_as_what_it_was_taken_of(name: str) -> None:
    sizes, config, draws = (5, 6), OptimizerConfig(), torch.Generator().manual_seed(1)
    x = torch.randn(sum(sizes), generator=draws)
    first = OPTIMIZERS[name](task_of(sizes), config, x)
    for active in (NAMES, NAMES, NAMES[1:], NAMES):
        second = OPTIMIZERS[name](task_of(sizes), config, x)
        second.load_state({key: value.clone() for key, value in first.state().items()})
        g = gradient(sum(sizes), active, draws)
        before, x = x, first.step(x, g)
        assert second.step(before, g).equal(x)
        assert {key: value.tolist() for key, value in second.state().items()} == {
            key: value.tolist() for key, value in first.state().items()
        }
