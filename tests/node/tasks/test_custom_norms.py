"""Own tasks with torch's layers that keep more than averages: BatchNorm that counts, and spectral norms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.utils as old
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gannet.node.plugins import Finding
from gannet.node.tasks.base import Evaluation
from gannet.node.tasks.custom.base import Context, Task
from gannet.node.tasks.custom.check import check
from tests.support.runs import play, virtual_job


class Counting(Task):
    """A regression through BatchNorm whose statistics are the mean of all batches so far."""

    uses_data = False

    def networks(self) -> dict[str, nn.Module]:
        self.net = nn.Sequential(
            nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        )
        return {"net": self.net}

    def minibatch(self) -> Tensor:
        return 3 + 2 * self.noise(16, 3)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        self.seen = batch
        return {"net": (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()}

    def measure(self) -> Evaluation:
        batch = self.minibatch()
        return Evaluation((self.net(batch) - batch.sum(1, keepdim=True)).square().mean().item(), {})


def counting(rank: int = 0, training: bool = True) -> Counting:
    return Counting({}, Context(rank=rank, world=2, seed=5))


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def test_batchnorm_without_momentum_has_the_mean_of_all_batches() -> None:
    task, truth = counting(), nn.BatchNorm1d(3, momentum=None)
    x = task.initial()
    for _ in range(7):
        g = task.gradient(x)
        truth(task.seen)
        x = x.clone()
        x[task.buffers] = g.buffers
    assert [spec.name for spec in task.layout if "tracked" in spec.name] == []
    assert truth.running_mean is not None and truth.running_var is not None
    torch.testing.assert_close(task.model.view(x, "net.0.running_mean"), truth.running_mean)
    torch.testing.assert_close(task.model.view(x, "net.0.running_var"), truth.running_var)
    assert truth.running_mean.mean() > 2  # it has learned: the data's mean is 3


def test_its_counter_is_the_nodes_own_and_in_its_checkpoints() -> None:
    task, restored = counting(), counting()
    x = task.initial()
    for _ in range(3):
        task.gradient(x)
    restored.load_state({name: value.clone() for name, value in task.state().items()})
    task.evaluate(x)  # counts no batch
    assert torch.equal(task.gradient(x).buffers, restored.gradient(x).buffers)  # type: ignore[arg-type]
    assert names(check(counting)) == []


def wrapped(style: str, layer: nn.Module) -> nn.Module:
    return parametrizations.spectral_norm(layer) if style == "new" else old.spectral_norm(layer)


class Critic(Task):
    """A critic with spectral norms, which climbs on its node's own data."""

    uses_data = False
    style = "new"

    def networks(self) -> dict[str, nn.Module]:
        first, last = wrapped(self.style, nn.Conv2d(3, 8, 3)), wrapped(self.style, nn.Linear(8 * 16, 1))
        self.critic = nn.Sequential(first, nn.ReLU(), nn.Flatten(), last)
        return {"critic": self.critic}

    def minibatch(self) -> Tensor:
        return self.noise(8, 3, 6, 6) + self.context.rank

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {"critic": -self.critic(batch).mean() + self.critic(torch.randn_like(batch)).mean()}

    def measure(self) -> Evaluation:
        self.critic(self.noise(1, 3, 6, 6))
        largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in self.layers]
        return Evaluation(0.0, {"largest": max(largest), "least": min(largest)})

    @property
    def layers(self) -> list[Any]:
        return [self.critic[0], self.critic[3]]


class OldCritic(Critic):
    style = "old"


@pytest.mark.parametrize("kind", [Critic, OldCritic])
def test_the_mean_of_nodes_critics_has_spectral_norm_1(kind: type[Critic]) -> None:
    """By the singular values of the weight in use, where each node has trained apart from the others for a while."""
    tasks = [kind({}, Context(rank=rank, world=3, seed=5)) for rank in range(3)]
    memory, outcome = play(virtual_job({"name": "local"}, 3, 40, optimizer={"learning_rate": 0.05}), tasks)
    assert outcome.status == "finished"
    mean = torch.from_numpy(memory.states(40).mean(axis=0))
    scored = kind({}, Context()).evaluate(mean).more
    assert scored["largest"] == pytest.approx(1, abs=0.01) and scored["least"] == pytest.approx(1, abs=0.01)
    for rank, task in enumerate(tasks):  # and so has each node's own
        own = task.evaluate(torch.from_numpy(memory.states(40)[rank])).more
        assert own["largest"] == pytest.approx(1, abs=0.01)
