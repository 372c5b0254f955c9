"""The check of a task: each mistake is found by its name and alone, and what is sound passes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiment.task_check import findings_of
from node.tasks.base import BUFFERS, Evaluation, FlatModel, Gradient, Task, TensorSpec, random_stream
from node.tasks.check import check
from node.tasks.config import DataConfig, GameConfig, MintyConfig, MixtureConfig, TaskConfig, TaskSetting
from node.tasks.own import Context, OwnTask


class Sound:
    """A task written out by hand: min_u max_v of ⟨u, b⟩⟨v, b⟩ + |u|² − |v|², b a random minibatch; a running mean."""

    score_name = "norm"

    def __init__(self, rank: int, training: bool) -> None:
        self.training = training
        with torch.device("meta"):
            self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)
            self.right.register_buffer("mean", torch.empty(2))
        self.model = FlatModel({"left": self.left, "right": self.right}, torch.device("cpu"))
        self.layout, self.players, self.buffers = self.model.layout, self.model.players, self.model.buffers
        self.size = self.model.size
        self.rank = rank
        self.stream = random_stream(1, 5, rank)

    def initial(self) -> Tensor:
        return torch.randn(self.size, generator=random_stream(1, 6))

    def minibatch(self) -> Tensor:
        return torch.randn(4, 3, generator=self.stream)

    def value(self, batch: Tensor) -> Tensor:
        right = self.right(batch)
        self.right.get_buffer("mean").mul_(0.9).add_(right.detach().mean(0), alpha=0.1)
        apart = self.left(batch).square().mean() - right.square().mean()
        return (self.left(batch) * right).mean() + apart

    def field(self, value: Tensor) -> Tensor:
        value.backward()
        field = self.model.gradients.clone()
        field[self.players["right"]] *= -1
        return field

    @torch.enable_grad()
    def gradient(self, x: Tensor) -> Gradient:
        self.model.load(x)
        value = self.value(self.minibatch())
        field = self.field(value)
        return Gradient(field, ("left", "right"), self.after(), {"left": value.item(), "right": -value.item()})

    def after(self) -> Tensor | None:
        return self.model.values[self.buffers].clone()

    def state(self) -> dict[str, Tensor]:
        return {"stream": self.stream.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.stream.set_state(state["stream"])

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        return torch.zeros(n, 1, 1, 1)

    def evaluate(self, x: Tensor) -> Evaluation:
        return Evaluation(float(x.norm()), {})


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


class FieldWithBuffers(Sound):
    def field(self, value: Tensor) -> Tensor:
        return torch.cat([super().field(value), torch.zeros(2)])


class DoubleField(Sound):
    def field(self, value: Tensor) -> Tensor:
        return super().field(value).double()


class NotFinite(Sound):
    def value(self, batch: Tensor) -> Tensor:
        return super().value(batch) / 0.0


class NoBuffers(Sound):
    def after(self) -> Tensor | None:
        return None


class OldBuffers(Sound):
    """Returns the buffers as they came with x, while the module changed its own."""

    def gradient(self, x: Tensor) -> Gradient:
        return super().gradient(x)._replace(buffers=x[self.buffers].clone())


class HiddenBuffer(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        self.norm = nn.BatchNorm1d(3, affine=False)

    def value(self, batch: Tensor) -> Tensor:
        return super().value(self.norm(batch))


class Idle(Sound):
    """Trains the left player only, by what it says."""

    def gradient(self, x: Tensor) -> Gradient:
        return super().gradient(x)._replace(active=("left",))


class NoLoss(Sound):
    def gradient(self, x: Tensor) -> Gradient:
        return super().gradient(x)._replace(losses={"left": 0.0})


class ChangesX(Sound):
    def gradient(self, x: Tensor) -> Gradient:
        g = super().gradient(x)
        assert g.buffers is not None
        x[self.buffers] = g.buffers
        return g


class SharesX(Sound):
    """Hands out x's own buffers, and has none of its own that change."""

    def value(self, batch: Tensor) -> Tensor:
        return (self.left(batch) * self.right(batch)).mean() + self.left(batch).square().mean()

    def gradient(self, x: Tensor) -> Gradient:
        return super().gradient(x)._replace(buffers=x[self.buffers])


class RemembersX(Sound):
    """A momentum towards the last x, of which it keeps no copy."""

    last: Tensor | None = None

    def gradient(self, x: Tensor) -> Gradient:
        g = super().gradient(x)
        if self.last is not None:
            g.field.add_(self.last[: len(g.field)], alpha=1e-3)
        self.last = x
        return g


class Reuses(Sound):
    def field(self, value: Tensor) -> Tensor:
        value.backward()
        self.model.gradients[self.players["right"]] *= -1
        return self.model.gradients


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


class LeftOut(Sound):
    def value(self, batch: Tensor) -> Tensor:
        left, right = self.left(batch), torch.nn.functional.linear(batch, self.right.weight)
        return (left * right).mean() + left.square().mean() - right.square().mean()


class Detached(Sound):
    def value(self, batch: Tensor) -> Tensor:
        left = torch.nn.functional.linear(batch, self.left.weight, self.left.bias.detach())
        return (left * self.right(batch)).mean() + left.square().mean() - self.right(batch).square().mean()


class Unknown(Sound):
    def __init__(self, rank: int, training: bool) -> None:
        super().__init__(rank, training)
        with torch.device("meta"):
            self.third = nn.Linear(3, 3, bias=False)
        self.third.weight = nn.Parameter(torch.eye(3))

    def minibatch(self) -> Tensor:
        return self.third(super().minibatch())  # type: ignore[no-any-return]


class WrongSign(Sound):
    """Forgets that the right player ascends."""

    def field(self, value: Tensor) -> Tensor:
        value.backward()
        return self.model.gradients.clone()


class ScoresAtRandom(Sound):
    def evaluate(self, x: Tensor) -> Evaluation:
        return Evaluation(next(_builds) + 1.0, {})


class ScoresNegative(Sound):
    def evaluate(self, x: Tensor) -> Evaluation:
        return Evaluation(-1.0, {})


class ScoresTensor(Sound):
    def evaluate(self, x: Tensor) -> Evaluation:
        return Evaluation(x.norm(), {})  # type: ignore[arg-type]


class GeneratesFlat(Sound):
    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        return torch.zeros(n, 4)


class GenerateDisturbs(Sound):
    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        torch.randn(1, generator=self.stream)
        return torch.zeros(n, 1, 1, 1)


class EvaluateWrites(Sound):
    def evaluate(self, x: Tensor) -> Evaluation:
        norm = float(x.norm())
        x[0] += 1e-9 + abs(x[0])
        return Evaluation(0 * norm, {})


def names(kind: Callable[[int, bool], object]) -> list[str]:
    def make(rank: int, training: bool = True) -> Task:
        return kind(rank, training)  # type: ignore[return-value]

    # GlobalTorch and others draw from the global streams, which belong to the whole session.
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        return [finding.name for finding in check(make)]
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ShortSize, "layout"),
        (Overlap, "layout"),
        (SizeOfTraining, "layout-differs"),
        (DoubleStart, "initial"),
        (EmptyStart, "initial"),
        (RankStart, "initial-by-rank"),
        (FieldWithBuffers, "field"),
        (DoubleField, "field"),
        (NotFinite, "not-finite"),
        (NoBuffers, "buffers"),
        (OldBuffers, "in-place-buffer"),
        (HiddenBuffer, "hidden-buffer"),
        (Idle, "active"),
        (NoLoss, "losses"),
        (ChangesX, "changes-x"),
        (EvaluateWrites, "changes-x"),
        (SharesX, "keeps-x"),
        (RemembersX, "keeps-x"),
        (Reuses, "reused-memory"),
        (GlobalTorch, "global-random"),
        (GlobalNumpy, "global-random"),
        (MovesPython, "global-random"),
        (Clock, "not-deterministic"),
        (OneStream, "same-stream"),
        (Forgets, "state-incomplete"),
        (NoStream, "state-incomplete"),
        (LeftOut, "left-out"),
        (Detached, "detached"),
        (Unknown, "not-in-x"),
        (WrongSign, "sign"),
        (ScoresAtRandom, "evaluate"),
        (ScoresNegative, "evaluate"),
        (ScoresTensor, "evaluate"),
        (GeneratesFlat, "generate"),
        (GenerateDisturbs, "scoring-disturbs"),
    ],
)
def test_each_mistake_is_found_by_name_and_alone(kind: Callable[[int, bool], object], name: str) -> None:
    found = names(kind)
    assert set(found) == {name} and len(found) <= 2


def test_a_sound_task_passes() -> None:
    assert names(Sound) == []


class Dropout(OwnTask):
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
    measure = OwnTask.measure


def own(kind: type[OwnTask]) -> Callable[[int, bool], OwnTask]:
    return lambda rank, training: kind({}, Context(rank if training else 0, 2 if training else 1, 1, 4))


def test_dropout_is_safe_in_a_task_of_the_base_class() -> None:
    assert names(own(Dropout)) == []


def test_a_task_without_a_measure_has_no_score() -> None:
    assert names(own(Scoreless)) == ["no-score"]


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
