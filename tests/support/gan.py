"""A small GAN task for tests, and the same losses written without it: plain modules, one loss a player."""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.task import GanTask

Loss = Literal["wgan-gp", "hinge"]
LOSSES: list[Loss] = ["wgan-gp", "hinge"]


def images(n: int = 40, shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def small_task(loss: Loss, batch: int = 6, rank: int = 0, seed: int = 3, **settings: object) -> GanTask:
    config = TaskConfig(loss=loss, width=4, latent=5, **settings)
    return GanTask(config, (1, 28, 28), seed, rank=rank, images=images(), batch=batch)


def trained(task: GanTask, steps: int = 5, rate: float = 1e-2) -> Tensor:
    """A point away from the initial one, so that nothing is zero by symmetry."""
    x = task.initial()
    for _ in range(steps):
        gradient = task.gradient(x)
        x = x.clone()
        x[: len(gradient.field)] -= rate * gradient.field.sign()
        if gradient.buffers is not None:
            x[task.buffers] = gradient.buffers
    return x


# An independent reference: ordinary modules and layers, one loss and one call of autograd a player.


class ReferenceGenerator(nn.Module):
    def __init__(self, latent: int, width: int, normalised: bool, tracked: bool) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels, track_running_stats=tracked) if normalised else nn.Identity()

        self.width = width
        self.project = nn.Linear(latent, 2 * width * 49, bias=not normalised)
        self.norm1 = norm(2 * width)
        self.double1 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=not normalised)
        self.norm2 = norm(width)
        self.double2 = nn.ConvTranspose2d(width, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.project(z).unflatten(1, (7, 7, 2 * self.width)).movedim(-1, 1)
        return self.double2(self.norm2(self.double1(self.norm1(h).relu())).relu()).tanh()


class ReferenceCritic(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.halve1 = nn.Conv2d(1, width, 4, 2, 1)
        self.halve2 = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.halve3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1)
        self.score = nn.Linear(4 * width * 16, 1)
        self.spectral = False

    def forward(self, h: Tensor) -> Tensor:
        for layer in (self.halve1, self.halve2, self.halve3):
            h = F.leaky_relu(F.conv2d(h, self.weight(layer), layer.bias, layer.stride, layer.padding), 0.1)
        return F.linear(h.movedim(1, -1).flatten(1), self.weight(self.score), self.score.bias).flatten()

    def weight(self, layer: nn.Module) -> Tensor:
        if not self.spectral:
            return layer.weight
        matrix = layer.weight.flatten(1)
        u, _, vh = torch.linalg.svd(matrix.detach(), full_matrices=False)
        return layer.weight / (u[:, 0] @ matrix @ vh[0])


class Reference:
    """The two players' losses at x on a given minibatch, in double precision."""

    def __init__(self, task: GanTask, x: Tensor) -> None:
        config = task.config
        tracked = config.batch_norm_buffers == "mixed"
        self.config = config
        self.generator = ReferenceGenerator(config.latent, config.width, config.generator_norm == "batch", tracked)
        self.critic = ReferenceCritic(config.width)
        self.critic.spectral = config.loss == "hinge"
        networks = {"generator": self.generator.double(), "discriminator": self.critic.double()}
        tensors = {
            name: dict(network.named_parameters()) | dict(network.named_buffers())
            for name, network in networks.items()
        }
        for spec in task.layout:
            player, _, name = spec.name.partition(".")
            tensors[player][name].data.copy_(x[spec.start :][: tensors[player][name].numel()].view(spec.shape))

    def generator_loss(self, noise: Tensor) -> Tensor:
        return -self.critic(self.generator(noise)).mean()

    def critic_loss(self, real: Tensor, noise: Tensor, between: Tensor) -> Tensor:
        fake = self.generator(noise).detach()
        if self.config.loss == "hinge":
            return F.relu(1 - self.critic(real)).mean() + F.relu(1 + self.critic(fake)).mean()
        mixed = (between * real + (1 - between) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)
        penalty = sum((s.square().sum().sqrt() - 1) ** 2 for s in slope) / len(slope)
        return self.critic(fake).mean() - self.critic(real).mean() + self.config.gradient_penalty * penalty

    def field(self, real: Tensor, noise: Tensor, between: Tensor) -> Tensor:
        of_generator = torch.autograd.grad(self.generator_loss(noise), list(self.generator.parameters()))
        of_critic = torch.autograd.grad(self.critic_loss(real, noise, between), list(self.critic.parameters()))
        return torch.cat([g.flatten() for g in of_generator + of_critic])


def minibatch(task: GanTask) -> tuple[Tensor, Tensor, Tensor]:
    """What the next gradient will draw, from a copy of the task's stream, in double precision."""
    twin = copy.copy(task)
    twin._random = torch.Generator()
    twin.load_state(task.state())
    real, noise = twin._draw()
    between = twin._uniform(len(real)).view(-1, 1, 1, 1)
    return real.double(), noise.double(), between.double()
