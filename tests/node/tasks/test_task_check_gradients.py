"""Mistakes in a task's gradients and scores, and in whose memory they lie: each is found by name and alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gannet.node.tasks.base import Evaluation, Gradient
from tests.support.checked import Sound, findings


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


_builds = iter(range(10**6))


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


@pytest.mark.parametrize(
    ("kind", "name"),
    [
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
    found = findings(kind)
    assert set(found) == {name} and len(found) <= 2
