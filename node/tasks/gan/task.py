"""The GAN task: both players' gradients at one point, from one pass through each network.

WGAN-GP (Gulrajani et al. 2017, algorithm 1), the hinge loss with spectral normalisation (Miyato et al.
2018) and the non-saturating loss (Goodfellow et al. 2014). The field holds each player's gradient of its own
loss, as their algorithms use it: the penalty is the critic's alone, and its interpolates count as constants.

A class-conditional GAN's fakes have the labels of the real images of their minibatch: they are drawn as the
labels of the node's shard are, and a penalty's interpolates have one label, not two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gannet.node.layout import BUFFERS
from gannet.node.tasks.base import FlatModel, Gradient, fetch, random_stream, stage
from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures import build_networks
from gannet.node.tasks.gan.losses import generator_loss, judge
from gannet.node.tasks.gan.moving_average import MovingAverage

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
INITIAL_STREAM, TRAINING_STREAM, SAMPLING_STREAM = range(3)
GENERATION_BATCH = 256


class GanTask:
    """A generator and a critic on one shard of images. See `gannet.node.tasks.base.AnyTask` for the contract.

    images: uint8 (n, C, H, W) on the CPU, or None for a task that only generates. labels: int64 (n,), needed where
    the GAN is class-conditional and not used elsewhere.
    batch: images a step; drawn with replacement, so steps are independent draws as the papers assume.
    On the "meta" device a gradient is a dry run: shapes without values, and losses that are no numbers.
    """

    def __init__(
        self,
        config: TaskConfig,
        image_shape: tuple[int, int, int],
        seed: int,
        *,
        rank: int = 0,
        images: Tensor | None = None,
        labels: Tensor | None = None,
        batch: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if images is not None and (images.dtype != torch.uint8 or tuple(images.shape[1:]) != image_shape):
            raise ValueError(f"images: want uint8 (n, *{image_shape}), got {images.dtype} {tuple(images.shape)}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if images is not None and config.classes is not None:
            _check_labels(labels, len(images), config.classes)
        self.config = config
        self.device = torch.device(device)
        with torch.device("meta"):
            self.generator, self.critic = build_networks(config, image_shape)
        self.model = FlatModel({GENERATOR: self.generator, DISCRIMINATOR: self.critic}, self.device)
        self.layout, self.players, self.buffers = self.model.layout, self.model.players, self.model.buffers
        self.size = self.model.size
        self.sample_values = batch * image_shape[0] * image_shape[1] * image_shape[2]
        self._image_shape = image_shape
        self._made: list[Tensor] = []
        self._images = images
        self._labels = labels if config.classes is not None else None
        self._classes: tuple[
            Tensor, ...
        ] = ()  # of the last minibatch, on the device; for both networks to be called with
        self._batch = batch
        self._seed = seed
        self._random = random_stream(seed, TRAINING_STREAM, rank)
        self._calls = 0
        self._average = MovingAverage(config.ema, [self.players[GENERATOR], self.buffers])

    def initial(self) -> Tensor:
        """As the architecture has it, running statistics at the identity; shape (size,), on the CPU."""
        random = random_stream(self._seed, INITIAL_STREAM)
        networks = {GENERATOR: self.generator, DISCRIMINATOR: self.critic}
        x = torch.zeros(self.size)
        for spec in self.layout:
            tensor = x[spec.place].view(spec.shape)
            if spec.player != BUFFERS:
                networks[spec.player].initialise(spec.name.removeprefix(f"{spec.player}."), tensor, random)
            elif spec.name.endswith("running_var"):
                tensor.fill_(1.0)
        return x

    @torch.enable_grad()
    def gradient(self, x: Tensor) -> Gradient:
        """The field at x: each player's gradient of its own loss on the next minibatch.

        The critic's scores of real and fake images are differentiated once. That pass gives the critic's
        gradient and, at the fake images, the slope which the generator climbs: where no sample's score depends
        on another's, the two losses' slopes differ by a known factor a sample.
        """
        self._calls += 1
        generating = self._calls % self.config.critic_steps == 0
        self.model.load(x)
        real, noise = self._draw()
        self.generator.train()
        with torch.set_grad_enabled(generating):
            fake = self.generator(noise, *self._classes)
        seen = fake.detach().requires_grad_(generating)
        on_fake, critic_loss, slope = self._judge(real, seen)
        if generating:
            torch.autograd.backward(fake, slope)
            self._average.update(x)
        losses = numbers(torch.stack([generator_loss(self.config.loss, on_fake), critic_loss]))
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
        self._average.update(x)
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
        """See SplitTask."""
        self.model.load(x)
        seen = self._shaped(fakes).requires_grad_()
        loss = generator_loss(self.config.loss, self.critic(seen))
        (slope,) = torch.autograd.grad(loss, seen)
        return slope.flatten().cpu(), loss.item()

    def _judge(self, real: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the critic's gradient to the model's.

        Returns the fakes' scores, the critic's loss, and the derivative of the generator's by `seen` if asked for.
        """
        if self.critic.mixes_samples:  # a minibatch is normalised by itself: real images and fakes apart
            scores = torch.cat([self.critic(real, *self._classes), self.critic(seen, *self._classes)])
        else:
            scores = self.critic(torch.cat([real, seen]), *(labels.repeat(2) for labels in self._classes))
        on_real, on_fake = scores.detach().chunk(2)
        said = judge(self.config.loss, on_real, on_fake)
        slope = None
        if self.critic.mixes_samples and seen.requires_grad:
            climbed = torch.cat([torch.zeros_like(on_real), -said.climb]) / len(real)
            (slope,) = torch.autograd.grad(scores, seen, climbed, retain_graph=True)
        torch.autograd.backward(scores, torch.cat([-said.real, said.fake]) / len(real))
        if slope is None and seen.grad is not None:
            slope = -seen.grad / (said.fake / said.climb).view(-1, 1, 1, 1)
        critic_loss = said.loss
        if self.config.loss == "wgan-gp":
            between = self._uniform(len(real)).view(-1, 1, 1, 1)
            penalty = gradient_penalty(self.critic, real, seen.detach(), between, *self._classes)
            penalty = penalty * self.config.gradient_penalty
            torch.autograd.backward(penalty)
            critic_loss = critic_loss + penalty.detach()
        return on_fake, critic_loss, slope

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1] on the CPU; a batch normalises itself if there are no buffers.

        A class-conditional generator makes its classes in turn: image i is of class i mod classes.
        """
        classes = self.config.classes
        return self._generate(x, n, seed, None if classes is None else torch.arange(n) % classes)

    def generate_class(self, x: Tensor, n: int, seed: int, label: int) -> Tensor:
        """As `generate`, all of class `label`, which a class-conditional generator must have."""
        return self._generate(x, n, seed, torch.full((n,), label))

    @torch.no_grad()
    def _generate(self, x: Tensor, n: int, seed: int, labels: Tensor | None) -> Tensor:
        self.model.load(x)
        self.generator.eval()
        noise = torch.randn(n, self.config.latent, generator=random_stream(seed, SAMPLING_STREAM))
        inputs = [torch.split(noise, GENERATION_BATCH)]
        if labels is not None:
            inputs.append(torch.split(labels, GENERATION_BATCH))
        batches = zip(*inputs, strict=True)
        return torch.cat([self.generator(*(stage(i, self.device) for i in batch)).cpu() for batch in batches])

    def served(self, x: Tensor) -> Tensor:
        """x as users, snapshots and scores get it: with the generator's moving average where `ema` asks for one."""
        return self._average.applied(x)

    def state(self) -> dict[str, Tensor]:
        return {
            "calls": torch.tensor(self._calls),
            "random": self._random.get_state(),
            **self._average.state(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._calls = int(state["calls"])
        self._random.set_state(state["random"])
        self._average.load_state(state)

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
        if self._labels is not None:
            self._classes = (stage(self._labels[index], self.device),)
        return stage(self._images[index], self.device).float().div_(127.5).sub_(1)

    def _shaped(self, samples: Tensor) -> Tensor:
        return stage(samples, self.device).view(self._batch, *self._image_shape)

    def _uniform(self, n: int) -> Tensor:
        return stage(torch.rand(n, generator=self._random), self.device)


def numbers(losses: Tensor) -> list[float]:
    """A tensor's values; nan where it has none, on the meta device."""
    values: list[float] = [torch.nan] * len(losses) if losses.is_meta else losses.tolist()
    return values


def _check_labels(labels: Tensor | None, count: int, classes: int) -> None:
    if labels is None or labels.shape != (count,):
        raise ValueError(f"labels: a class-conditional GAN wants one for each of its {count} images")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"task.classes is {classes}, but the data has labels from {int(labels.min())} to {int(labels.max())}: "
            f"set task.classes: {int(labels.max()) + 1}"
        )


def gradient_penalty(
    critic: Callable[..., Tensor], real: Tensor, fake: Tensor, between: Tensor, *labels: Tensor
) -> Tensor:
    """mean_i (|grad D(x_i)| - 1)^2 at x_i = b_i real_i + (1 - b_i) fake_i, without its weight.

    real, fake: (n, C, H, W); between: b, uniform on [0, 1), (n, 1, 1, 1); labels: of both, for the critic.
    Gulrajani et al. 2017, algorithm 1.
    """
    mixed = torch.lerp(fake, real, between).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed, *labels).sum(), mixed, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
