"""The GAN task: both players' gradients at one point, from one pass through each network.

WGAN-GP (Gulrajani et al. 2017, algorithm 1) and the hinge loss with spectral normalisation (Miyato et al.
2018). For both, the field holds each player's gradient of its own loss, as their algorithms use it: the
penalty is the critic's alone, and its interpolates count as constants.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from node.tasks.base import FlatModel, Gradient, fetch, random_stream, stage
from node.tasks.config import TaskConfig
from node.tasks.models import Critic, Generator

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
INITIAL_STREAM, TRAINING_STREAM, SAMPLING_STREAM = range(3)
SATURATED = 2.0**-40
"""Weight of a fake whose hinge is saturated. Zero would also wipe out the generator's gradient, which flows
through the same backward pass; 2**-40 is lost in the rounding of the critic's sum and divides out exactly."""
GENERATION_BATCH = 256


class GanTask:
    """A generator and a critic on one shard of images. See `node.tasks.base.Task` for the contract.

    images: uint8 (n, C, H, W) on the CPU, or None for a task that only generates.
    batch: images a step; drawn with replacement, so steps are independent draws as the papers assume.
    """

    def __init__(
        self,
        config: TaskConfig,
        image_shape: tuple[int, int, int],
        seed: int,
        *,
        rank: int = 0,
        images: Tensor | None = None,
        batch: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if images is not None and (images.dtype != torch.uint8 or tuple(images.shape[1:]) != image_shape):
            raise ValueError(f"images: want uint8 (n, *{image_shape}), got {images.dtype} {tuple(images.shape)}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.config = config
        self.device = torch.device(device)
        with torch.device("meta"):
            self.generator = Generator(
                config.latent, config.width, image_shape, config.generator_norm, config.batch_norm_buffers
            )
            self.critic = Critic(config.width, image_shape, spectral=config.loss == "hinge")
        self.model = FlatModel({GENERATOR: self.generator, DISCRIMINATOR: self.critic}, self.device)
        self.layout, self.players, self.buffers = self.model.layout, self.model.players, self.model.buffers
        self.size = self.model.size
        self.sample_values = batch * image_shape[0] * image_shape[1] * image_shape[2]
        self._image_shape = image_shape
        self._made: list[Tensor] = []
        self._images = images
        self._batch = batch
        self._seed = seed
        self._random = random_stream(seed, TRAINING_STREAM, rank)
        self._calls = 0

    def initial(self) -> Tensor:
        """Weights of N(0, 1/fan_in), biases 0, BatchNorm at the identity; shape (size,), on the CPU."""
        random = random_stream(self._seed, INITIAL_STREAM)
        x = torch.zeros(self.size)
        for spec in self.layout:
            tensor = x[spec.place].view(spec.shape)
            if tensor.dim() > 1:
                transposed = spec.name.startswith(f"{GENERATOR}.double")
                fan_in = tensor[:, 0].numel() / 4 if transposed else tensor[0].numel()
                tensor.normal_(0.0, fan_in**-0.5, generator=random)
            elif ".norm" in spec.name and spec.name.endswith(("weight", "running_var")):
                tensor.fill_(1.0)
        return x

    @torch.enable_grad()
    def gradient(self, x: Tensor) -> Gradient:
        """The field at x: each player's gradient of its own loss on the next minibatch.

        The critic's scores of real and fake images are differentiated once. That pass gives the critic's
        gradient and, at the fake images, the slope which the generator climbs: its loss is -mean D(G(z)), and
        no sample's score depends on another's, so the two losses' slopes differ by a known factor a sample.
        """
        self._calls += 1
        generating = self._calls % self.config.critic_steps == 0
        self.model.load(x)
        real, noise = self._draw()
        self.generator.train()
        with torch.set_grad_enabled(generating):
            fake = self.generator(noise)
        seen = fake.detach().requires_grad_(generating)
        on_fake, critic_loss, weight_fake = self._judge(real, seen)
        if generating:
            fake.backward(-seen.grad / weight_fake.view(-1, 1, 1, 1))
        losses = torch.stack([-on_fake.mean(), critic_loss]).tolist()
        return Gradient(
            field=fetch(self.model.gradients, x.device),
            active=(GENERATOR, DISCRIMINATOR) if generating else (DISCRIMINATOR,),
            buffers=fetch(self.model.values[self.buffers], x.device) if self._has_buffers else None,
            losses=dict(zip((GENERATOR, DISCRIMINATOR), losses, strict=True)),
        )

    @torch.enable_grad()
    def fakes(self, x: Tensor, batches: int) -> Tensor:
        """See SplitTask. Each minibatch normalises itself and moves the running statistics."""
        self.model.load(x)
        self.generator.train()
        noise = [torch.randn(self._batch, self.config.latent, generator=self._random) for _ in range(batches)]
        self._made = [self.generator(stage(z, self.device)) for z in noise]
        return torch.stack([fake.detach().flatten() for fake in self._made]).cpu()

    def generator_gradient(self, slopes: Tensor) -> Gradient:
        """See SplitTask."""
        made, self._made = self._made, []
        if len(slopes) != len(made):
            raise ValueError(f"slopes of {len(slopes)} minibatches, but the last fakes were {len(made)}")
        torch.autograd.backward(
            made, [stage(s, self.device).view(fake.shape) for s, fake in zip(slopes, made, strict=True)]
        )
        return Gradient(
            field=fetch(self.model.gradients, slopes.device),
            active=(GENERATOR,),
            buffers=fetch(self.model.values[self.buffers], slopes.device) if self._has_buffers else None,
            losses={},
        )

    @torch.enable_grad()
    def critic_gradient(self, x: Tensor, fakes: Tensor) -> Gradient:
        """See SplitTask."""
        self.model.load(x)
        _, loss, _ = self._judge(self._real(), self._shaped(fakes))
        field = fetch(self.model.gradients, x.device)
        return Gradient(field, (DISCRIMINATOR,), None, {DISCRIMINATOR: loss.item()})

    @torch.enable_grad()
    def slopes(self, x: Tensor, fakes: Tensor) -> tuple[Tensor, float]:
        """See SplitTask. The generator's loss is -mean D(G(z)), of either kind of GAN here."""
        self.model.load(x)
        seen = self._shaped(fakes).requires_grad_()
        loss = -self.critic(seen).mean()
        (slope,) = torch.autograd.grad(loss, seen)
        return slope.flatten().cpu(), loss.item()

    def _judge(self, real: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the critic's gradient to the model's, and to `seen` that of its weighted scores.

        Returns the fakes' scores, the critic's loss, and the weights of the fakes in it.
        """
        scores = self.critic(torch.cat([real, seen]))
        on_real, on_fake = scores.detach().chunk(2)
        if self.config.loss == "hinge":
            critic_loss = (1 - on_real).relu().mean() + (1 + on_fake).relu().mean()
            weight_real = (on_real < 1).float()
            weight_fake = torch.where(on_fake > -1, 1.0, SATURATED)
        else:
            critic_loss = on_fake.mean() - on_real.mean()
            weight_real, weight_fake = torch.ones_like(on_real), torch.ones_like(on_fake)
        scores.backward(torch.cat([-weight_real, weight_fake]) / len(real))
        if self.config.loss == "wgan-gp":
            between = self._uniform(len(real)).view(-1, 1, 1, 1)
            penalty = gradient_penalty(self.critic, real, seen.detach(), between)
            penalty = penalty * self.config.gradient_penalty
            torch.autograd.backward(penalty)
            critic_loss = critic_loss + penalty.detach()
        return on_fake, critic_loss, weight_fake

    @torch.no_grad()
    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1] on the CPU; a batch normalises itself if there are no buffers."""
        self.model.load(x)
        self.generator.eval()
        noise = torch.randn(n, self.config.latent, generator=random_stream(seed, SAMPLING_STREAM))
        batches = torch.split(noise, GENERATION_BATCH)
        return torch.cat([self.generator(stage(z, self.device)).cpu() for z in batches])

    def state(self) -> dict[str, Tensor]:
        return {"calls": torch.tensor(self._calls), "random": self._random.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._calls = int(state["calls"])
        self._random.set_state(state["random"])

    @property
    def _has_buffers(self) -> bool:
        return self.buffers.stop > self.buffers.start

    def _draw(self) -> tuple[Tensor, Tensor]:
        """The next minibatch, images (batch, C, H, W) in [-1, 1] and noise (batch, latent), on the device."""
        real = self._real()
        return real, stage(torch.randn(self._batch, self.config.latent, generator=self._random), self.device)

    def _real(self) -> Tensor:
        if self._images is None:
            raise RuntimeError("this task was built without images: it generates, it does not train")
        index = torch.randint(len(self._images), (self._batch,), generator=self._random)
        return stage(self._images[index], self.device).float().div_(127.5).sub_(1)

    def _shaped(self, samples: Tensor) -> Tensor:
        return stage(samples, self.device).view(self._batch, *self._image_shape)

    def _uniform(self, n: int) -> Tensor:
        return stage(torch.rand(n, generator=self._random), self.device)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
    """mean_i (|grad D(x_i)| - 1)^2 at x_i = b_i real_i + (1 - b_i) fake_i, without its weight.

    real, fake: (n, C, H, W); between: b, uniform on [0, 1), (n, 1, 1, 1). Gulrajani et al. 2017, algorithm 1.
    """
    mixed = torch.lerp(fake, real, between).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
