"""The GAN task against references written without it: plain modules, one loss a player, closed forms."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from gannet.node.data.config import DataConfig
from gannet.node.data.shard import Shard
from gannet.node.layout import BUFFERS
from gannet.node.tasks import build_sampler, build_task
from gannet.node.tasks.base import FlatModel
from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures.small import Critic, Generator
from gannet.node.tasks.gan.architectures.spectral import spectral_norm
from gannet.node.tasks.gan.task import gradient_penalty
from tests.support.gan import LOSSES, Loss, Reference, images, minibatch, small_task, trained

SETTINGS = [
    {"generator_norm": "batch", "batch_norm_buffers": "mixed"},
    {"generator_norm": "batch", "batch_norm_buffers": "absent"},
    {"generator_norm": "none"},
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_field_is_each_players_gradient_of_its_own_loss(loss: Loss, settings: dict[str, object]) -> None:
    task = small_task(loss, **settings)
    x = trained(task)
    batch = minibatch(task)
    reference = Reference(task, x)
    gradient = task.gradient(x)
    expected = reference.field(*batch)
    assert gradient.field.shape == expected.shape
    torch.testing.assert_close(gradient.field.double(), expected, rtol=1e-3, atol=1e-5)
    assert gradient.losses["generator"] == pytest.approx(reference.generator_loss(batch[1]).item(), abs=1e-4)
    assert gradient.losses["discriminator"] == pytest.approx(reference.critic_loss(*batch).item(), rel=1e-4)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize("loss", LOSSES)
def test_field_agrees_with_finite_differences_of_the_losses(loss: Loss, player: str) -> None:
    task = small_task(loss)
    x = trained(task)
    real, noise, between = minibatch(task)
    field = task.gradient(x).field.double()[task.players[player]]
    reference = Reference(task, x)
    network: nn.Module = reference.generator if player == "generator" else reference.critic
    start = nn.utils.parameters_to_vector(network.parameters()).detach()

    def loss_at(distance: float) -> float:
        nn.utils.vector_to_parameters(start + distance * field / field.norm(), network.parameters())
        if player == "generator":
            return reference.generator_loss(noise).item()
        return reference.critic_loss(real, noise, between).item()

    slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    assert slope == pytest.approx(field.norm().item(), rel=1e-3)


@pytest.mark.parametrize("bias", [-3.0, -1.0, 0.0, 3.0])
def test_saturated_hinges_leave_the_generators_gradient_whole(bias: float) -> None:
    task = small_task("hinge", batch=16)
    x = trained(task)
    task.model.view(x, "discriminator.score.bias").fill_(bias)
    batch = minibatch(task)
    expected = Reference(task, x).field(*batch)
    torch.testing.assert_close(task.gradient(x).field.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_penalty_of_a_linear_critic_is_its_closed_form(norm: float) -> None:
    class Linear(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ weight

    weight = torch.randn(784, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight *= norm / weight.norm()
    real, fake = torch.rand(2, 5, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    between = torch.rand(5, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert gradient_penalty(Linear(), real, fake, between).item() == pytest.approx((norm - 1) ** 2, abs=1e-12)


def test_penalty_is_a_mean_over_samples_and_not_of_their_mean_slope() -> None:
    def critic(images: Tensor) -> Tensor:  # slope x: the norm differs from sample to sample
        return images.flatten(1).square().sum(1) / 2

    points = torch.zeros(2, 1, 1, 2)
    points[0, 0, 0, 0], points[1, 0, 0, 0] = 3.0, -3.0
    assert gradient_penalty(critic, points, points, torch.full((2, 1, 1, 1), 0.5)).item() == pytest.approx(4.0)


@pytest.mark.parametrize("shape", [(8, 3, 4, 4), (32, 4, 3, 3), (1, 64), (16, 1, 4, 4), (64, 8, 3, 3)])
def test_spectral_norm_is_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)).requires_grad_()
    sigma = spectral_norm(weight)
    u, s, vh = torch.linalg.svd(weight.detach().flatten(1).double(), full_matrices=False)
    assert sigma.item() == pytest.approx(s[0].item(), rel=1e-3)
    (slope,) = torch.autograd.grad(sigma, weight)
    assert (slope.flatten(1).double() * torch.outer(u[:, 0], vh[0])).sum().abs().item() == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 12)])
def test_patch_layers_equal_the_convolutions_they_stand_for(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    critic, generator = Critic(6, shape, spectral=False), Generator(4, 6, shape, "batch", "absent")
    for parameter in [*critic.halve1.parameters(), *generator.double2.parameters()]:
        nn.init.normal_(parameter)
    seen = torch.randn(5, *shape)
    torch.testing.assert_close(
        critic.halve1(seen, critic.halve1.weight),
        F.conv2d(seen, critic.halve1.weight, critic.halve1.bias, 2, 1),
        rtol=1e-4,
        atol=1e-4,
    )
    h = torch.randn(5, 6, shape[1] // 2, shape[2] // 2)
    torch.testing.assert_close(
        generator.double2(h),
        F.conv_transpose2d(h, generator.double2.weight, generator.double2.bias, 2, 1),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_leaves_x_alone_and_keeps_no_reference_to_it(loss: Loss) -> None:
    task = small_task(loss)
    x = task.initial()
    before = x.clone()
    first = task.gradient(x)
    assert torch.equal(x, before)
    kept = first.field.clone()
    x.fill_(float("nan"))
    assert torch.equal(first.field, kept)
    second = task.gradient(before)
    assert second.field.isfinite().all()
    assert torch.equal(first.field, kept), "a later call wrote into an earlier result"


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_seeds_give_equal_bits_and_ranks_differ(loss: Loss) -> None:
    one, same, other = (small_task(loss, rank=rank) for rank in (1, 1, 2))
    assert torch.equal(one.initial(), other.initial())
    x = trained(one)
    assert torch.equal(x, trained(same))
    assert not torch.equal(x, trained(other))
    assert not torch.equal(one.initial(), small_task(loss, seed=4).initial())


PRINT_TRAINED = """
import hashlib, torch
torch.set_num_threads(1)
from tests.support.gan import LOSSES, small_task, trained
for loss in LOSSES:
    print(hashlib.sha256(trained(small_task(loss)).numpy().tobytes()).hexdigest())
"""


def test_another_process_gets_the_same_bits() -> None:
    command = [sys.executable, "-c", PRINT_TRAINED]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in "ab")
    assert len(first.split()) == len(LOSSES)
    assert first == second


def test_the_global_random_stream_is_never_touched() -> None:
    before = torch.get_rng_state()
    task = small_task("wgan-gp")
    task.gradient(task.initial())
    task.generate(task.initial(), 3, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_gradient_works_where_autograd_is_switched_off() -> None:
    task, same = small_task("hinge"), small_task("hinge")
    with torch.no_grad():
        field = task.gradient(task.initial()).field
    assert torch.equal(field, same.gradient(same.initial()).field)


def test_the_generator_moves_at_every_third_step() -> None:
    task = small_task("wgan-gp", critic_steps=3)
    x = task.initial()
    gradients = [task.gradient(x) for _ in range(6)]
    assert ["generator" in g.active for g in gradients] == [False, False, True] * 2
    for g in gradients:
        assert "discriminator" in g.active
        assert bool(g.field[task.players["generator"]].any()) == ("generator" in g.active)
        assert g.field[task.players["discriminator"]].any()


def test_a_restored_task_goes_on_as_if_nothing_had_happened() -> None:
    task, restored = small_task("wgan-gp", critic_steps=2), small_task("wgan-gp", critic_steps=2, rank=5)
    x = trained(task)
    restored.load_state(task.state())
    for _ in range(3):
        ours, theirs = task.gradient(x), restored.gradient(x)
        assert torch.equal(ours.field, theirs.field) and ours.active == theirs.active


def test_the_layout_covers_x_without_gaps() -> None:
    task = small_task("hinge")
    end = 0
    for spec in task.layout:
        assert spec.start == end
        end = spec.place.stop
    assert end == task.size == len(task.initial())
    assert task.players == {
        "generator": slice(0, task.players["discriminator"].start),
        "discriminator": slice(task.players["generator"].stop, task.buffers.start),
    }
    assert all((spec.player == BUFFERS) == (spec.start >= task.buffers.start) for spec in task.layout)


def test_buffers_are_the_running_statistics_of_batch_norm() -> None:
    task = small_task("hinge", batch_norm_buffers="mixed")
    x = task.initial()
    _, noise, _ = minibatch(task)
    reference = Reference(task, x)
    reference.generator(noise)
    expected = torch.cat(
        [reference.generator.get_buffer(f"norm{i}.running_{s}") for i in (1, 2) for s in ("mean", "var")]
    )
    buffers = task.gradient(x).buffers
    assert buffers is not None
    torch.testing.assert_close(buffers.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS[1:])
def test_without_buffers_there_is_nothing_to_mix(settings: dict[str, object]) -> None:
    task = small_task("hinge", **settings)
    assert task.buffers.start == task.buffers.stop == task.size
    assert task.gradient(task.initial()).buffers is None
    assert task.generate(task.initial(), 4, seed=0).isfinite().all()


def test_generation_uses_the_buffers_in_x_and_needs_no_data() -> None:
    config = TaskConfig(loss="hinge", width=4, latent=5)
    sampler = build_sampler(config, DataConfig())
    x = trained(small_task("hinge"))
    images_ = sampler.generate(x, 300, seed=9)
    assert images_.shape == (300, 1, 28, 28) and images_.abs().max() <= 1
    assert torch.equal(images_, sampler.generate(x, 300, seed=9))
    assert not torch.equal(images_, sampler.generate(x, 300, seed=10))
    moved = x.clone()
    moved[sampler.buffers] += 0.5
    assert not torch.allclose(images_, sampler.generate(moved, 300, seed=9))
    with pytest.raises(RuntimeError, match="without images"):
        sampler.gradient(x)


def test_generating_does_not_disturb_training() -> None:
    task, same = small_task("hinge"), small_task("hinge")
    x = task.initial()
    task.generate(x, 4, seed=0)
    assert torch.equal(task.gradient(x).field, same.gradient(x).field)


def test_colour_images_of_32_pixels() -> None:
    shard = Shard(images(10, (3, 32, 32)), torch.zeros(10, dtype=torch.long))
    task = build_task(TaskConfig(width=4, latent=3), shard, rank=1, world=2, seed=0, batch=4)
    x = task.initial()
    assert task.gradient(x).field.isfinite().all()
    assert task.generate(x, 2, seed=0).shape == (2, 3, 32, 32)


def test_the_default_gan_has_about_a_quarter_million_parameters() -> None:
    sampler = build_sampler(TaskConfig(), DataConfig())
    assert 200_000 < sampler.size < 260_000


def test_x_of_another_size_or_type_is_refused() -> None:
    model = FlatModel({"generator": nn.Linear(2, 3, device="meta")}, torch.device("cpu"))
    for wrong in (torch.zeros(8), torch.zeros(9, dtype=torch.float64), torch.zeros(3, 3)):
        with pytest.raises(ValueError, match="float32 of shape"):
            model.load(wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "lsgan"}, "'wgan-gp' or 'hinge'"),
        (
            {"critic_step": 5},
            "unknown critic_step \\(did you mean critic_steps\\?\\); allowed: name, loss, critic_steps",
        ),
        ({"critic_steps": 0}, "greater than or equal to 1"),
        ({"batch_norm_buffers": "local"}, "'mixed' or 'absent'"),
    ],
)
def test_wrong_task_settings_say_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskConfig.model_validate(values)
