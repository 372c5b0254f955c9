"""What is sound passes the check of a task: written by hand, of the base class, or built in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gannet.cli.task_check import findings_of
from gannet.node.data.config import DataConfig
from gannet.node.tasks.base import Evaluation
from gannet.node.tasks.config import GameConfig, KdganConfig, MintyConfig, MixtureConfig, TaskConfig, TaskSetting
from gannet.node.tasks.custom.base import Context, Task
from tests.support.checked import Sound, findings


def test_a_sound_task_passes() -> None:
    assert findings(Sound) == []


class Dropout(Task):
    """Dropout and torch.randn are safe in a task of the base class."""

    uses_data = False

    def networks(self) -> dict[str, nn.Module]:
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        return {"net": self.net}

    def minibatch(self) -> Tensor:
        return torch.randn(4, 3)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {"net": (self.net(batch) - 1).square().mean()}

    def measure(self) -> Evaluation:
        return Evaluation(self.net(self.noise(50, 3)).square().mean().item(), {})


class Scoreless(Dropout):
    measure = Task.measure


def own(kind: type[Task]) -> Callable[[int, bool], Task]:
    return lambda rank, training: kind({}, Context(rank if training else 0, 2 if training else 1, 1, 4))


def test_dropout_is_safe_in_a_task_of_the_base_class() -> None:
    assert findings(own(Dropout)) == []


def test_a_task_without_a_measure_has_no_score() -> None:
    assert findings(own(Scoreless)) == ["no-score"]


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig(width=4),
        TaskConfig(loss="hinge", width=4, critic_steps=2),
        TaskConfig(width=4, batch_norm_buffers="absent"),
        GameConfig(name="game", noise=0.1, spread=0.5),
        GameConfig(name="game", curvature=0.5),
        MintyConfig(name="minty", noise=0.5),
        MixtureConfig(name="mixture", width=16, samples=100),
        MixtureConfig(name="mixture", width=16, samples=100, modes="grid-25", sharing="apart"),
    ],
    ids=repr,
)
def test_what_is_built_in_passes(task: TaskSetting) -> None:
    assert findings_of(task, DataConfig(), 4) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"pretrain_steps": 2, "dropout": 0.2},
        {"pretrain_steps": 0, "adversarial": "minimax", "distillation": "kl", "samples": 2},
        {"kind": "tagging", "classifier": "lenet"},
        {"method": "nagan", "pretrain_steps": 1},
        {"method": "distn", "pretrain_steps": 3},
        {"method": "mimic", "pretrain_steps": 3, "labels": 80},
        {"method": "classifier"},
    ],
    ids=repr,
)
def test_kdgan_passes_in_the_pretraining_and_in_the_game(settings: dict[str, Any]) -> None:
    task = KdganConfig(**{"name": "kdgan", "hidden": 8, "filters": 2, "features": 6, **settings})
    data = DataConfig(compose=3 if task.kind == "tagging" else None)
    assert findings_of(task, data, 4) == []


def test_a_teacher_that_never_learns_is_found() -> None:
    """Distillation moves the classifier alone: without a pretraining the teacher stays at x_0."""
    task = KdganConfig(name="kdgan", method="mimic", hidden=8, filters=2, features=6, pretrain_steps=0)
    found = findings_of(task, DataConfig(), 4)
    assert [(finding.name, "player teacher" in finding.what) for finding in found] == [("left-out", True)]
