"""The interface of a task to algorithms: one flat parameter vector x and a stochastic gradient field at x.

A GAN is a game of two players, so x = [generator | discriminator | buffers] and the field is
[grad_u F, -grad_v F]: moving against it descends for the generator u and ascends for the discriminator v.
Algorithms, codecs and exchanges see flat float32 tensors only; the layout says where each tensor lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from gannet.node.layout import BUFFERS, TensorSpec

"""The `player` of a tensor that is averaged between nodes but has no gradient."""


class Gradient(NamedTuple):
    """One evaluation of the field on a fresh minibatch.

    field: flat, one entry per parameter (buffers excluded), zero for players that are not active.
    active: the players to update this step.
    buffers: the buffers after this evaluation, None when the task has none.
    losses: each player's own loss.
    """

    field: Tensor
    active: tuple[str, ...]
    buffers: Tensor | None
    losses: dict[str, float]


class AnyTask(Protocol):
    """A differentiable game. All tensors are float32 and flat, on the device of the x that was passed in."""

    layout: tuple[TensorSpec, ...]
    players: dict[str, slice]
    buffers: slice
    size: int

    def initial(self) -> Tensor:
        """The starting x, shape (size,), on the CPU: the same bits on every rank for one seed."""
        ...

    def gradient(self, x: Tensor) -> Gradient:
        """The field at x on the next minibatch. Leaves x alone and keeps no reference to it.

        Bit-equal for equal seed, rank, x, state and thread count, in whatever process.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Position in the random stream and in the schedule: with x, everything a checkpoint needs."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None: ...

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1], on the CPU. Needs no data set and leaves `state` alone."""
        ...


class Evaluation(NamedTuple):
    """A task's evaluation of its own parameters.

    score: the deciding figure, lower is better, never negative. more: other figures by name, for tables. images: the
    images that the score is based on, (n, C, H, W) in [-1, 1] or bytes, if there are any.
    """

    score: float
    more: dict[str, float]
    images: Tensor | None = None


@runtime_checkable
class Evaluates(Protocol):
    """A task that scores itself; images of a GAN are scored by gannet.scores.score_run instead."""

    score_name: str

    def evaluate(self, x: Tensor) -> Evaluation:
        """Score x, flat float32 on the CPU, always the same for one x. Leaves x and `state` alone.

        Asked of a task that `gannet.node.tasks.build_sampler` made: it has no training data, but may read the test
        split.
        """
        ...


@runtime_checkable
class ServesAnother(Protocol):
    """A task whose users get something else than the x that is trained, of the same layout."""

    def served(self, x: Tensor) -> Tensor:
        """The parameters used for snapshots and scores, a new tensor or x itself. Leaves x and `state` unchanged."""
        ...


@runtime_checkable
class SplitTask(AnyTask, Protocol):
    """A GAN whose players can live on different nodes: samples go one way, slopes come back.

    A minibatch of samples or of slopes is flat, `sample_values` long, float32. Each call takes what random numbers it
    needs from the task's own stream.
    """

    sample_values: int

    def fakes(self, x: Tensor, batches: int) -> Tensor:
        """`batches` fresh minibatches of the generator at x, (batches, sample_values), on the CPU."""
        ...

    def generator_gradient(self, slopes: Tensor) -> Gradient:
        """Σ_b J_bᵀ slopes_b, J_b the generator's derivative of the minibatch b of the last `fakes`; buffers after it.

        slopes: (batches, sample_values). No other method that takes an x may be called in between.
        """
        ...

    def critic_gradient(self, x: Tensor, fakes: Tensor) -> Gradient:
        """The discriminator's gradient of its own loss on these fakes and the next real minibatch."""
        ...

    def slopes(self, x: Tensor, fakes: Tensor) -> tuple[Tensor, float]:
        """(derivative of the generator's loss by the fakes, that loss), by the discriminator at x; on the CPU."""
        ...


def random_stream(seed: int, *key: int) -> torch.Generator:
    """An own CPU generator for (seed, *key); streams of different keys are independent."""
    state = np.random.SeedSequence([seed, *key]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


class FlatModel:
    """Networks, by player, whose parameters, gradients and buffers are views of flat tensors.

    Setting all parameters is then one copy, and reading all gradients needs none. Build the networks on the
    "meta" device: they get their storage here, and the global random generator is never touched.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self.networks = dict(networks)
        specs: list[TensorSpec] = []
        start = 0

        def place(name: str, tensor: Tensor, player: str) -> None:
            nonlocal start
            if not tensor.is_floating_point():
                raise TypeError(f"{name} is {tensor.dtype}: a flat float32 vector cannot hold it")
            specs.append(TensorSpec(name, tuple(tensor.shape), start, player))
            start += tensor.numel()

        self.players: dict[str, slice] = {}
        for player, network in networks.items():
            begin = start
            for name, parameter in network.named_parameters():
                place(f"{player}.{name}", parameter, player)
            self.players[player] = slice(begin, start)
        parameters = start
        for player, network in networks.items():
            for name, buffer in network.named_buffers():
                place(f"{player}.{name}", buffer, BUFFERS)
        self.layout = tuple(specs)
        self.buffers = slice(parameters, start)
        self.size = start
        self.device = device
        self.values = torch.zeros(start, device=device)
        self.gradients = torch.zeros(parameters, device=device)
        self._bind(nn.ModuleDict(dict(networks)))

    def _bind(self, networks: nn.ModuleDict) -> None:
        for spec in self.layout:
            path, _, leaf = spec.name.rpartition(".")
            owner = networks.get_submodule(path)
            value = self.values[spec.place].view(spec.shape)
            if spec.player == BUFFERS:
                # .data: autograd counts its changes apart from those of the parameters, which it may need unchanged.
                setattr(owner, leaf, value.data)
            else:
                parameter = nn.Parameter(value)
                parameter.grad = self.gradients[spec.place].view(spec.shape)
                setattr(owner, leaf, parameter)

    def load(self, x: Tensor) -> None:
        """Copy x in and set the gradients to zero."""
        if x.shape != (self.size,) or x.dtype != torch.float32:
            raise ValueError(f"x must be float32 of shape ({self.size},), got {x.dtype} of {tuple(x.shape)}")
        self.values.copy_(stage(x.detach(), self.device), non_blocking=True)
        self.gradients.zero_()

    def view(self, x: Tensor, name: str) -> Tensor:
        """The tensor called `name` inside the flat vector x."""
        spec = next(spec for spec in self.layout if spec.name == name)
        return x[spec.place].view(spec.shape)


def stage(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`. Host memory goes to a GPU through a pinned copy, so the host need not wait:
    the pinned allocator does not reuse the block before the transfer is done."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fetch(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of `tensor` on `device`, complete when this returns."""
    if device.type == "cpu" and tensor.device.type == "cuda":
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(tensor.device).synchronize()
        return pinned
    return tensor.to(device, copy=True)
