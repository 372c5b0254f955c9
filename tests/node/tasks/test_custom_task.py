"""The base class of somebody's own task against autograd by hand, and what it says of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_shard
from gannet.node.settings import Settings
from gannet.node.tasks.base import Evaluation
from gannet.node.tasks.custom.base import Batch, Context, Task, TaskMistake


class Width(Settings):
    width: int = 4


class Pair(Task):
    """A generator with BatchNorm and a critic on shards of images; sits out every second step of the generator."""

    Settings = Width
    score_name = "distance"

    def networks(self) -> dict[str, nn.Module]:
        width = self.settings.width
        self.maker = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 784))
        self.critic = nn.Sequential(nn.Linear(784, width), nn.Tanh(), nn.Linear(width, 1))
        return {"maker": self.maker, "critic": self.critic}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.seen = batch
        self.z = self.noise(len(batch.images), 3)
        fake = self.maker(self.z)
        judged = self.critic(fake)
        losses = {"critic": (self.critic(batch.images.flatten(1)) - 1).square().mean() + judged.square().mean()}
        return losses if self.calls % 2 else {**losses, "maker": -judged.mean()}

    def measure(self) -> Evaluation:
        return Evaluation(self.maker(self.noise(20, 3)).square().mean().item(), {"mode": float(self.maker.training)})


def pair(rank: int = 0, **settings: Any) -> Pair:
    data = DataConfig()
    return Pair(settings, Context(rank, 2, 7, 5, shard=load_shard(data, rank, 2, 7)))


def test_each_player_has_the_gradient_of_its_own_loss() -> None:
    """Against a second set of modules, given the same values, and plain backward() of one loss at a time."""
    task = pair()
    x = task.initial()
    first, second = task.gradient(x), task.gradient(x)
    assert first.active == ("critic",) and not first.field[task.players["maker"]].any()
    assert set(second.active) == {"maker", "critic"}
    twin = Pair({}, Context())
    twin.maker.load_state_dict({k: v.clone() for k, v in _values(task, x, "maker").items()}, strict=False)
    twin.critic.load_state_dict({k: v.clone() for k, v in _values(task, x, "critic").items()}, strict=False)
    fake = twin.maker(task.z)
    critic = (twin.critic(task.seen.images.flatten(1)) - 1).square().mean() + twin.critic(fake).square().mean()
    maker = -twin.critic(fake).mean()
    expected = torch.cat(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)])
            for loss, module in ((maker, twin.maker), (critic, twin.critic))
        ]
    )
    torch.testing.assert_close(second.field, expected, rtol=1e-4, atol=1e-6)
    assert second.losses == pytest.approx({"maker": maker.item(), "critic": critic.item()}, rel=1e-4)
    # BatchNorm's formula: 0.9 of the old statistics and 0.1 of this batch's.
    hidden = F.linear(task.z, twin.maker[0].weight, twin.maker[0].bias)
    assert second.buffers is not None and task.buffers.stop - task.buffers.start == 8
    torch.testing.assert_close(second.buffers[:4], 0.1 * hidden.detach().mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(second.buffers[4:], 0.9 + 0.1 * hidden.detach().var(0), rtol=1e-4, atol=1e-6)


def _values(task: Pair, x: Tensor, player: str) -> dict[str, Tensor]:
    return {
        spec.name.removeprefix(f"{player}."): x[spec.place].view(spec.shape)
        for spec in task.layout
        if spec.name.startswith(f"{player}.")
    }


def test_initial_values_are_the_modules_own_and_ranks_share_them() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, other = pair(0), pair(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.initial(), other.initial())
    assert not torch.equal(first.gradient(first.initial()).field, other.gradient(first.initial()).field)
    weight = _values(first, first.initial(), "maker")["0.weight"]
    assert 0 < float(weight.abs().max()) <= 3**-0.5  # nn.Linear's uniform of 1/√fan_in


def test_minibatches_are_of_the_nodes_own_shard() -> None:
    task = pair(1)
    for _ in range(5):
        task.gradient(task.initial())
        images = task.seen.images.add(1).mul(127.5).round().byte().flatten(1)
        shard = task.context.shard
        assert shard is not None and all((shard.images.flatten(1) == image).all(1).any() for image in images)


def test_state_goes_on_where_it_was_and_scores_disturb_nothing() -> None:
    task, other = pair(), pair()
    x = task.initial()
    task.gradient(x)
    state = task.state()
    following = [task.gradient(x) for _ in range(3)]
    other.load_state(state)
    assert other.evaluate(x) == other.evaluate(x) and other.evaluate(x).more == {"mode": 0.0}
    other.generate(x, 2, 0)
    for g in following:
        again = other.gradient(x)
        assert torch.equal(again.field, g.field) and again.buffers is not None and g.buffers is not None
        assert torch.equal(again.buffers, g.buffers) and again.active == g.active


def test_settings_are_checked_and_reach_the_networks() -> None:
    assert pair(width=9).layout[0].shape == (9, 3)
    with pytest.raises(ValueError, match="unknown depth; allowed: width"):
        pair(depth=2)


class Frozen(Pair):
    def networks(self) -> dict[str, nn.Module]:
        networks = super().networks()
        self.critic.requires_grad_(False)
        return networks


class Shared(Pair):
    def networks(self) -> dict[str, nn.Module]:
        networks = super().networks()
        self.critic.add_module("again", self.maker[0])
        return networks


class Double(Pair):
    def networks(self) -> dict[str, nn.Module]:
        return {name: network.double() for name, network in super().networks().items()}


class NoNetworks(Pair):
    def networks(self) -> dict[str, nn.Module]:
        return {}


class Empty(Pair):
    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks(), "third": nn.Tanh()}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Frozen, "critic.0.weight is frozen: register it as a buffer"),
        (Shared, "critic.again.weight is also maker.0.weight: a tensor has one place in x"),
        (Double, "maker.0.weight is torch.float64: x is float32"),
        (NoNetworks, "must give a dict with a module of each player"),
        (Empty, "player third has no parameters"),
    ],
)
def test_networks_that_cannot_be_flat_say_why(kind: type[Pair], words: str) -> None:
    with pytest.raises(TaskMistake, match=words):
        kind({}, Context())


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (lambda t: {"critic": t.critic(torch.zeros(2, 784))}, r"must be a scalar tensor, got shape \(2, 1\)"),
        (lambda t: {"critic": 1.0}, "got float"),
        (lambda t: {"critics": t.critic(torch.zeros(2, 784)).mean()}, "critics', which is no player"),
        (lambda t: {"critic": t.critic(torch.zeros(2, 784)).mean().detach()}, "does not depend on any network"),
        (lambda t: None, "must give a dict with a scalar of each player"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be_used_say_why(losses: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = pair()
    monkeypatch.setattr(task, "losses", lambda batch: losses(task))
    with pytest.raises(TaskMistake, match=words):
        task.gradient(task.initial())
