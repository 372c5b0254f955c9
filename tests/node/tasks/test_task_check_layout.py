"""Mistakes in where a task's values lie, in its random numbers and its state: each is found by name and alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.tasks.base import random_stream
from tests.support.checked import Sound, findings


def _overlap(task: Sound) -> None:
    task.layout = (*task.layout[:1], task.layout[1]._replace(start=0), *task.layout[2:])


class ShortSize(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        self.size += 1


class Overlap(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        _overlap(self)


class SizeOfTraining(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        if not training:
            self.layout = (*self.layout[:-1], TensorSpec("right.other", (2,), self.layout[-1].start, BUFFERS))


class DoubleStart(Sound):
    def initial(self) -> Tensor:
        return super().initial().double()


class RankStart(Sound):
    def initial(self) -> Tensor:
        return torch.randn(self.size, generator=random_stream(1, 6, self.rank))


class EmptyStart(Sound):
    def initial(self) -> Tensor:
        return super().initial() / 0.0


class GlobalTorch(Sound):
    def minibatch(self) -> Tensor:
        return torch.randn(4, 3)


class GlobalNumpy(Sound):
    def minibatch(self) -> Tensor:
        return torch.from_numpy(np.random.standard_normal((4, 3))).float()


class MovesPython(Sound):
    """Uses no global random number, but reseeds them for all others."""

    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        random.random()


_builds = iter(range(10**6))


class Clock(Sound):
    """What depends on how many there were before, as on a clock."""

    def minibatch(self) -> Tensor:
        return super().minibatch() * (1 + next(_builds) % 7)


class OneStream(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        self.stream = random_stream(1, 5)


class Forgets(Sound):
    """A counter that decides and is not in the state."""

    calls = 0

    def minibatch(self) -> Tensor:
        self.calls += 1
        return super().minibatch() * (1 + self.calls % 5)


class NoStream(Sound):
    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None: ...


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ShortSize, "layout"),
        (Overlap, "layout"),
        (SizeOfTraining, "layout-differs"),
        (DoubleStart, "initial"),
        (EmptyStart, "initial"),
        (RankStart, "initial-by-rank"),
        (GlobalTorch, "global-random"),
        (GlobalNumpy, "global-random"),
        (MovesPython, "global-random"),
        (Clock, "not-deterministic"),
        (OneStream, "same-stream"),
        (Forgets, "state-incomplete"),
        (NoStream, "state-incomplete"),
    ],
)
def test_each_mistake_is_found_by_name_and_alone(kind: Callable[[int, bool], object], name: str) -> None:
    found = findings(kind)
    assert set(found) == {name} and len(found) <= 2
