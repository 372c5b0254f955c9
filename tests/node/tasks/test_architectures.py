"""Architectures against references in plain torch.nn: parameter counts of the papers, functions, fields."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures import build_networks
from gannet.node.tasks.gan.architectures.sagan import Attention
from gannet.node.tasks.gan.task import GanTask
from tests.support.gan import images, trained

CIFAR = DataConfig(name="cifar10", root="nowhere")
LOSSES = {"dcgan": ("non-saturating", "hinge", "wgan-gp"), "resnet": ("wgan-gp", "hinge", "non-saturating"),
          "sagan": ("hinge",)}  # fmt: skip
KINDS = [(name, loss) for name, losses in LOSSES.items() for loss in losses]


def task_of(architecture: str, loss: str, size: int = 16, batch: int = 4, **settings: Any) -> GanTask:
    config = TaskConfig(architecture=architecture, loss=loss, width=4, latent=3, **settings)
    shown = images(20, (3, size, size))
    return GanTask(config, (3, size, size), 1, images=shown, labels=torch.arange(20) % 3, batch=batch)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Gulrajani et al.'s networks for CIFAR-10, in modules as one would write them after the paper's appendix.


class Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


class Down(nn.Module):
    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool = False) -> None:
        super().__init__()
        pool: list[nn.Module] = [nn.AvgPool2d(2)] if halve else []
        self.main = nn.Sequential(
            *([] if first else [nn.ReLU()]), nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), *pool,
        )  # fmt: skip
        project = [nn.Conv2d(inputs, outputs, 1)] if halve else []
        self.shortcut = nn.Sequential(*(pool + project if first else project + pool))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


class Pool(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, h: Tensor) -> Tensor:
        return h.mean((2, 3)) if self.kind == "mean" else h.sum((2, 3))


def paper_generator(latent: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent, 16 * width), nn.Unflatten(1, (width, 4, 4)), Up(width, width), Up(width, width),
        Up(width, width), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


def paper_critic(width: int, pool: str) -> nn.Sequential:
    return nn.Sequential(
        Down(3, width, True, first=True), Down(width, width, True), Down(width, width, False),
        Down(width, width, False), nn.ReLU(), Pool(pool), nn.Linear(width, 1), nn.Flatten(0),
    )  # fmt: skip


def test_the_resnets_of_wgan_gp_and_sngan_have_their_papers_parameters() -> None:
    """By hand, of width w and latent z: a 3×3 layer 9w²+w, a 1×1 layer w²+w, a norm 2w, three such blocks up."""
    for loss, width, generator_width, pool in (("wgan-gp", 128, 128, "mean"), ("hinge", 128, 256, "sum")):
        config = TaskConfig(
            architecture="resnet", loss=loss, latent=128, width=width, generator_width=generator_width
        )
        sampler = build_sampler(config, CIFAR)
        g, w = generator_width, width
        by_hand = (128 + 1) * 16 * g + 3 * (2 * (9 * g * g + g) + g * g + g + 4 * g) + 2 * g + 27 * g + 3
        generator = sampler.players["generator"]
        assert generator.stop - generator.start == by_hand == parameters(paper_generator(128, g))
        first = 27 * w + w + 9 * w * w + w + 3 * w + w
        by_hand = first + 2 * (9 * w * w + w) + w * w + w + 4 * (9 * w * w + w) + w + 1
        critic = sampler.players["discriminator"]
        assert critic.stop - critic.start == by_hand == parameters(paper_critic(w, pool))
    assert by_hand == 1_053_825


def test_dcgan_at_64_pixels_has_the_parameters_of_the_usual_one() -> None:
    """The 4×4-kernel DCGAN of PyTorch's examples, 100 → 512 → 256 → 128 → 64 → 3: 3,576,704 and 2,765,568."""
    config = TaskConfig(architecture="dcgan", loss="non-saturating", latent=100, width=64)
    sampler = build_sampler(config, DataConfig(name="image-folder", root="nowhere", image_size=64))
    assert {player: part.stop - part.start for player, part in sampler.players.items()} == {
        "generator": 3_576_704,
        "discriminator": 2_765_568,
    }


def filled(network: Any, seed: int) -> Any:
    """The network with storage and random values everywhere, so that nothing agrees by symmetry."""
    network.to_empty(device="cpu").double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.3, generator=random)
    return network


def copied(fro: nn.Module, to: nn.Module) -> None:
    """Parameters by their order within modules of one kind and shape: the two are written in the same order."""

    def by_shape(network: nn.Module) -> dict[tuple[int, ...], list[Tensor]]:
        found: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in network.parameters():
            found.setdefault(tuple(parameter.shape), []).append(parameter)
        return found

    ours, theirs = by_shape(fro), by_shape(to)
    assert {k: len(v) for k, v in ours.items()} == {k: len(v) for k, v in theirs.items()}
    with torch.no_grad():
        for shape, tensors in ours.items():
            for mine, other in zip(tensors, theirs[shape], strict=True):
                other.copy_(mine)


@pytest.mark.parametrize("loss", ["wgan-gp", "hinge"])
def test_the_resnet_is_its_reference_as_a_function(loss: str) -> None:
    config = TaskConfig(architecture="resnet", loss=loss, latent=5, width=6, batch_norm_buffers="absent")
    with torch.device("meta"):
        generator, critic = (filled(network, 1) for network in build_networks(config, (3, 32, 32)))
    reference, judge = paper_generator(5, 6).double(), paper_critic(6, "sum" if loss == "hinge" else "mean").double()
    for ours, theirs in zip(generator.blocks, reference[2:5], strict=True):
        pairs = [(ours.norm1.norm, theirs.main[0]), (ours.conv1, theirs.main[3]), (ours.norm2.norm, theirs.main[4]),
                 (ours.conv2, theirs.main[6]), (ours.shortcut, theirs.shortcut[1])]  # fmt: skip
        for one, other in pairs:
            copied(one, other)
    for one, other in (
        (generator.project, reference[0]),
        (generator.norm, reference[5]),
        (generator.image, reference[7]),
    ):
        copied(one, other)
    for number, (ours, theirs) in enumerate(zip(critic.blocks, judge[:4], strict=True)):
        convolutions = [module for module in theirs.main if isinstance(module, nn.Conv2d)]
        copied(ours.conv1, convolutions[0])
        copied(ours.conv2, convolutions[1])
        if number < 2:
            copied(ours.shortcut, theirs.shortcut)
    copied(critic.head, judge[6])
    if loss == "hinge":  # PyTorch's own normalisation, its power iterations run until they have converged
        for module in judge.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                spectral_norm(module, n_power_iterations=500)
        judge(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
        judge.eval()
    random = torch.Generator().manual_seed(2)
    noise = torch.randn(4, 5, generator=random, dtype=torch.float64)
    pictures = torch.rand(4, 3, 32, 32, generator=random, dtype=torch.float64)
    torch.testing.assert_close(generator(noise), reference(noise), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(critic(pictures), judge(pictures), rtol=1e-5, atol=1e-6)


def test_attention_is_the_papers_formula_and_begins_as_the_identity() -> None:
    with torch.device("meta"):
        layer = Attention(16)
    filled(layer, 3)
    x = torch.randn(2, 16, 3, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def weight(convolution: nn.Module) -> Tensor:
        matrix = convolution.weight.detach().flatten(1)
        return matrix / torch.linalg.svdvals(matrix)[0]

    f, g, h, v = (weight(convolution) for convolution in (layer.f, layer.g, layer.h, layer.v))
    expected = x.clone()
    for sample in range(2):
        pixels = x[sample].flatten(1)  # (C, N)
        for j in range(15):
            s = torch.stack([(f @ pixels[:, i]) @ (g @ pixels[:, j]) for i in range(15)])
            beta = s.exp() / s.exp().sum()
            o = v @ sum(beta[i] * (h @ pixels[:, i]) for i in range(15))
            expected[sample, :, j // 5, j % 5] += layer.gamma.detach() * o
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-7)
    layer.gamma.data.zero_()
    assert torch.equal(layer(x), x)
    gammas = [spec for spec in task_of("sagan", "hinge").layout if spec.name.endswith("gamma")]
    assert len(gammas) == 2 and all(task_of("sagan", "hinge").initial()[spec.place] == 0 for spec in gammas)


def test_every_weight_of_a_sagan_is_spectrally_normalised() -> None:
    """Ten times the weights of any convolution or linear layer, its bias left as it is, change nothing."""
    task = task_of("sagan", "hinge")
    x = trained(task)
    for spec in task.layout:
        if spec.name.endswith("gamma"):
            x[spec.place] = 0.5
    shown = images(3, (3, 16, 16)).float() / 127.5 - 1
    task.model.load(x)
    made, scores = task.generate(x, 3, 0), task.critic(shown)
    weights = [spec for spec in task.layout if len(spec.shape) > 1]
    assert len(weights) == (1 + 2 * 3 + 4 + 1) + (3 + 4 + 2 * 2 + 1)
    for spec in weights:
        scaled = x.clone()
        scaled[spec.place] *= 10
        torch.testing.assert_close(task.generate(scaled, 3, 0), made, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(task.critic(shown), scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize(("architecture", "loss"), KINDS)
def test_field_is_each_players_gradient_of_its_own_loss(architecture: str, loss: str, classes: int | None) -> None:
    """Autograd of either loss as its paper writes it, for the real images and fakes apart."""
    task = task_of(architecture, loss, classes=classes, batch=6)
    x = trained(task, steps=2, rate=3e-3)
    state = task.state()
    gradient = task.gradient(x)
    task.load_state(state)
    task.model.load(x)
    real, noise = task._draw()
    labels = task._classes
    assert len(labels) == (0 if classes is None else 1)
    fake = task.generator(noise, *labels)
    on_real, on_fake = task.critic(real, *labels), task.critic(fake.detach(), *labels)
    climbs = task.critic(fake, *labels)
    if loss == "hinge":
        critic_loss, generator_loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean(), -climbs.mean()
    elif loss == "non-saturating":
        critic_loss = -torch.log(torch.sigmoid(on_real)).mean() - torch.log(1 - torch.sigmoid(on_fake)).mean()
        generator_loss = -torch.log(torch.sigmoid(climbs)).mean()
    else:
        between = task._uniform(len(real)).view(-1, 1, 1, 1)
        mixed = (between * real + (1 - between) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(task.critic(mixed, *labels).sum(), mixed, create_graph=True)
        critic_loss = on_fake.mean() - on_real.mean() + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        generator_loss = -climbs.mean()
    expected = [
        *torch.autograd.grad(generator_loss, list(task.generator.parameters()), retain_graph=True),
        *torch.autograd.grad(critic_loss, list(task.critic.parameters()), allow_unused=True),
    ]
    sizes = [parameter.numel() for network in (task.generator, task.critic) for parameter in network.parameters()]
    flat = torch.cat([torch.zeros(n) if g is None else g.flatten() for g, n in zip(expected, sizes, strict=True)])
    torch.testing.assert_close(gradient.field, flat, rtol=2e-3, atol=2e-5)
    assert gradient.losses["generator"] == pytest.approx(generator_loss.item(), rel=1e-3, abs=1e-4)
    assert gradient.losses["discriminator"] == pytest.approx(critic_loss.item(), rel=1e-3, abs=1e-4)
    for player in task.players.values():
        assert gradient.field[player].any()


@pytest.mark.parametrize(("architecture", "loss"), KINDS)
def test_equal_seeds_give_equal_bits_and_a_gradient_leaves_x_alone(architecture: str, loss: str) -> None:
    one, same = (task_of(architecture, loss, classes=3, critic_steps=2, ema=0.9) for _ in "ab")
    x = trained(one)
    assert torch.equal(x, trained(same)) and torch.equal(one.served(x), same.served(x))
    before = x.clone()
    kept = one.gradient(x).field.clone()
    assert torch.equal(x, before) and torch.equal(kept, same.gradient(x).field)


@pytest.mark.parametrize("size", [8, 28, 32, 64, 128])
@pytest.mark.parametrize("architecture", ["dcgan", "resnet", "sagan"])
def test_architectures_scale_by_blocks(architecture: str, size: int) -> None:
    loss = LOSSES[architecture][0]
    config = TaskConfig(architecture=architecture, loss=loss, width=8, latent=4)
    task = GanTask(config, (1, size, size), 0)
    made = task.generate(task.initial(), 2, seed=0)
    assert made.shape == (2, 1, size, size) and made.abs().max() <= 1
    assert task.critic(made).shape == (2,)
    layers = sum(len(spec.shape) == 4 for spec in task.layout)
    doublings, halvings = {8: (1, 1), 28: (2, 2), 32: (3, 2), 64: (4, 3), 128: (5, 4)}[size]
    of_attention = (8 if size > 8 else 4) if architecture == "sagan" else 0  # 8 pixels: in the critic alone
    wanted = 2 * doublings if architecture == "dcgan" else 3 * doublings + 1 + 3 * halvings + 4
    assert layers == wanted + of_attention


def test_initial_weights_have_the_spread_of_their_papers() -> None:
    for architecture, loss in (("resnet", "wgan-gp"), ("dcgan", "non-saturating")):
        config = TaskConfig(architecture=architecture, loss=loss, width=32, latent=64)
        task = GanTask(config, (3, 32, 32), 0)
        x = task.initial()
        for spec in task.layout:
            values = x[spec.place]
            if len(spec.shape) < 2:
                assert values.unique().tolist() in ([0.0], [1.0])
            elif values.numel() > 2000:
                fans = (spec.shape[0] + spec.shape[1]) * math.prod(spec.shape[2:])
                inside = 4 if ".conv" in spec.name else 2
                wanted = 0.02 if architecture == "dcgan" else (inside / fans) ** 0.5
                assert values.std().item() == pytest.approx(wanted, rel=0.1), spec.name


@pytest.mark.parametrize(
    ("architecture", "loss"), [("dcgan", "non-saturating"), ("resnet", "hinge"), ("sagan", "hinge")]
)
def test_a_conditional_gan_makes_its_classes_in_turn(architecture: str, loss: str) -> None:
    task = task_of(architecture, loss, classes=3)
    x = trained(task)
    made = task.generate(x, 7, seed=5)
    task.model.load(x)
    task.generator.eval()
    from gannet.node.tasks.base import random_stream

    noise = torch.randn(7, 3, generator=random_stream(5, 2))
    with torch.no_grad():
        expected = task.generator(noise, torch.tensor([0, 1, 2, 0, 1, 2, 0]))
        other = task.generator(noise, torch.tensor([1, 2, 0, 1, 2, 0, 1]))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made, other, atol=1e-3)
    scores = [task.critic(made, torch.full((7,), label)) for label in range(3)]
    assert not torch.allclose(scores[0], scores[1], atol=1e-4)


def test_labels_that_the_gan_does_not_know_are_an_error_with_the_fix() -> None:
    config = TaskConfig(architecture="resnet", loss="hinge", classes=5)
    with pytest.raises(ValueError, match=r"labels from 0 to 9: set task\.classes: 10"):
        GanTask(config, (3, 8, 8), 0, images=images(10, (3, 8, 8)), labels=torch.arange(10))
    with pytest.raises(ValueError, match="one for each of its 10 images"):
        GanTask(config, (3, 8, 8), 0, images=images(10, (3, 8, 8)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 10}, "architecture small knows no labels"),
        ({"architecture": "sagan"}, "plays loss: hinge"),
        ({"architecture": "resnet", "classes": 10, "generator_norm": "none"}, "generator_norm: batch"),
        ({"architecture": "biggan"}, "'small', 'dcgan', 'resnet' or 'sagan'"),
        ({"ema": 1.0}, "less than 1"),
    ],
)
def test_settings_that_do_not_fit_say_what_does(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskConfig.model_validate(settings)


def test_a_moving_average_stays_on_its_node_and_is_what_leaves_it() -> None:
    task, plain = task_of("dcgan", "hinge", ema=0.5), task_of("dcgan", "hinge")
    assert task.layout == plain.layout, "no part of x: it cannot be mixed, nor counted as travelling"
    x = task.initial()
    assert torch.equal(task.served(x), x)
    seen = []
    for _ in range(4):
        seen.append(x)
        gradient = task.gradient(x)
        assert torch.equal(gradient.field, plain.gradient(x).field)
        x = x.clone()
        x[: len(gradient.field)] -= 0.01 * gradient.field.sign()
        x[task.buffers] = gradient.buffers
    seen.append(x)
    average = seen[0].double()
    for count, one in enumerate(seen[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * one.double()
    served, critic = task.served(x), task.players["discriminator"]
    torch.testing.assert_close(served[: critic.start].double(), average[: critic.start], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(served[task.buffers].double(), average[task.buffers], rtol=1e-5, atol=1e-7)
    assert torch.equal(served[critic], x[critic])
    restored = task_of("dcgan", "hinge", ema=0.5)
    restored.load_state(task.state())
    assert torch.equal(restored.served(x), served)
    restored.gradient(x)
    restored.load_state(task.state())
    assert torch.equal(restored.served(x), served), "a gradient that was taken back has left no trace"


def test_the_mean_of_the_nodes_averages_is_the_average_of_their_mean() -> None:
    """What makes it right to keep averages at home: scored is the nodes' mean."""
    from gannet.node.tasks.gan.moving_average import MovingAverage

    random = torch.Generator().manual_seed(0)
    states = torch.randn(6, 3, 10, generator=random)  # (steps, nodes, values)
    nodes = [MovingAverage(0.9, [slice(2, 7)]) for _ in range(3)]
    mean = MovingAverage(0.9, [slice(2, 7)])
    for now in states[:-1]:
        mean.update(now.mean(0))
        for node, x in zip(nodes, now, strict=True):
            node.update(x)
    of_nodes = torch.stack([node.applied(x) for node, x in zip(nodes, states[-1], strict=True)]).mean(0)
    torch.testing.assert_close(of_nodes, mean.applied(states[-1].mean(0)))
