"""A sound task written out by hand, for tests of the task check to make one mistake in; and what the check finds."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gannet.node.tasks.base import AnyTask, Evaluation, FlatModel, Gradient, random_stream
from gannet.node.tasks.custom.check import check


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


def findings(kind: Callable[[int, bool], object]) -> list[str]:
    """The names of what the check finds in a task."""

    def make(rank: int, training: bool = True) -> AnyTask:
        return kind(rank, training)  # type: ignore[return-value]

    # Some of the mistakes draw from the global streams, which belong to the whole session.
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        return [finding.name for finding in check(make)]
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])
