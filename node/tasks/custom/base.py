"""The base class of a user's own task: networks for the players, and a loss of each; the rest is here.

A subclass defines the `networks`, one per player, and each player's loss on a minibatch. This class
makes the flat vector of them, each player's gradient of its own loss, buffers, streams of random numbers, state,
minibatches of the node's shard, and the calls that score. docs/own-task.md walks through it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_split
from gannet.node.data.shard import Shard
from gannet.node.plugins import PluginMistake
from gannet.node.settings import NoSettings, Settings
from gannet.node.tasks.base import Evaluation, FlatModel, Gradient, fetch, random_stream, stage
from gannet.node.tasks.custom.norms import settle_spectral_norms, take_counters

INITIAL_STREAM, TRAINING_STREAM, SCORING_STREAM = range(3)


class TaskMistake(PluginMistake):
    """A task that cannot be trained as it is written; the message says what to change."""


@dataclass(frozen=True)
class Context:
    """The surroundings of a task: node `rank` of `world`, the run's seed, the minibatch, the device, the data.

    A node that trains has its `shard`. The scorer has none, but has `data`, whose test split can be read; the rank is
    0 of 1 then, and the seed 0.
    """

    rank: int = 0
    world: int = 1
    seed: int = 0
    batch: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shard: Shard | None = None
    data: DataConfig | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the data's images."""
        if self.shard is not None:
            channels, height, width = self.shard.images.shape[1:]
            return channels, height, width
        return (self.data or DataConfig()).image_shape


class Batch(NamedTuple):
    """A minibatch on the task's device: images (batch, C, H, W), float32 in [-1, 1], and labels (batch,), int64."""

    images: Tensor
    labels: Tensor


class Task:
    """A Task made of modules and losses; `networks` and `losses` must be defined, all else is optional.

    Inside these methods torch's global random numbers come from a stream of this node's own (dropout is safe), and so
    do `self.noise(…)`s. NumPy's and Python's do not: leave them alone.
    """

    uses_data: ClassVar[bool] = True
    """False: the task also defines `minibatch`, and a spec that gives it `data` is refused with that reason."""

    score_name: ClassVar[str] = "score"
    """Name of the score that `measure` returns; lower is better."""

    Settings: ClassVar[type[Settings]] = NoSettings
    """Fields that a spec may give as `settings`; read them as self.settings.<field>."""

    def __init__(self, settings: Mapping[str, Any], context: Context) -> None:
        self.settings: Any = self.Settings.model_validate(dict(settings))
        self.context = context
        self.device = context.device
        self.calls = 0
        self._random = random_stream(context.seed, TRAINING_STREAM, context.rank)
        with _seeded(random_stream(context.seed, INITIAL_STREAM), self.device):
            networks = self.networks()
        self._counters: list[Tensor] = []
        self._initial = _checked(networks, self._counters)
        self.model = FlatModel(networks, self.device)
        self.layout, self.players, self.buffers = self.model.layout, self.model.players, self.model.buffers
        self.size = self.model.size
        self._initial_x = torch.cat([self._initial.pop(spec.name).flatten() for spec in self.layout])
        self._networks = networks
        self._parameters = {name: list(network.parameters()) for name, network in networks.items()}

    # Methods that a task defines.

    def networks(self) -> dict[str, nn.Module]:
        """One module a player, by the player's name; kept as attributes too, for `losses` to call.

        Built once, on the CPU; their values are x_0, so they must not depend on the rank.
        """
        raise NotImplementedError(f"{type(self).__name__} must say its networks, one module a player")

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Each player's own loss on the minibatch, a scalar. A player that is left out sits out this step."""
        raise NotImplementedError(f"{type(self).__name__} must say its losses, one scalar a player")

    def minibatch(self) -> Any:
        """The next minibatch: of the node's shard, drawn with replacement, unless a task makes its own."""
        shard = self.context.shard
        if shard is None:
            raise RuntimeError("this task was built without images: it scores, it does not train")
        index = torch.randint(len(shard), (self.context.batch,), generator=self._random)
        return self.to_batch(shard.images[index], shard.labels[index])

    def measure(self) -> Evaluation:
        """How good the networks are as they stand, `score` lower is better; in evaluation mode, without gradients.

        It must not depend on rank or seed of the context: to score, the task is built again, as rank 0 of 1.
        """
        raise TaskMistake(
            f"{type(self).__name__} has no measure(), and so no score: write it, or give the spec score: null"
        )

    def sample(self, n: int) -> Tensor:
        """n images (n, C, H, W) in [-1, 1]; a task without images has grey dots."""
        return torch.zeros(n, 1, 1, 1)

    # Methods that a task may call.

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers of this node's own stream, on the device."""
        return stage(torch.randn(*shape, generator=self._random), self.device)

    def to_device(self, tensor: Tensor) -> Tensor:
        """The tensor where the networks are."""
        return stage(tensor, self.device)

    def to_batch(self, images: Tensor, labels: Tensor) -> Batch:
        """Bytes of a data set as networks want them."""
        return Batch(stage(images, self.device).float().div_(127.5).sub_(1), stage(labels, self.device))

    def test_data(self, limit: int | None = None) -> Batch:
        """The data set's test split, or `limit` of it: for `measure`."""
        if self.context.data is None:
            raise RuntimeError("a node that trains has no test split: read it in measure(), where the run is scored")
        shard = load_split(self.context.data, train=False, limit=limit)
        return self.to_batch(shard.images, shard.labels)

    # The protocol gannet.node.tasks.base.AnyTask.

    def initial(self) -> Tensor:
        """The values that `networks` gave its modules."""
        return self._initial_x.clone()

    @torch.enable_grad()
    def gradient(self, x: Tensor) -> Gradient:
        """Each player's gradient of its own loss on the next minibatch."""
        self.model.load(x)
        self.calls += 1
        self._mode(training=True)
        with _seeded(self._random, self.device):
            losses = self._losses()
        where = {name: self.players[name] for name in losses}
        for number, (name, loss) in enumerate(losses.items(), start=1):
            slopes = torch.autograd.grad(
                loss, self._parameters[name], retain_graph=number < len(losses), allow_unused=True
            )
            flat = [
                torch.zeros_like(parameter).flatten() if slope is None else slope.flatten()
                for slope, parameter in zip(slopes, self._parameters[name], strict=True)
            ]
            self.model.gradients[where[name]] = torch.cat(flat)
        return Gradient(
            field=fetch(self.model.gradients, x.device),
            active=tuple(losses),
            buffers=fetch(self.model.values[self.buffers], x.device) if self._has_buffers else None,
            losses={name: loss.item() for name, loss in losses.items()},
        )

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """n of the task's samples at x, on the CPU."""
        with self._scoring(x, seed):
            return self.sample(n).detach().float().cpu()

    def evaluate(self, x: Tensor) -> Evaluation:
        """The task's measure at x; the same numbers whenever it is asked."""
        with self._scoring(x, 0):
            return self.measure()

    def state(self) -> dict[str, Tensor]:
        """A task with more memory than its networks adds it here and takes it back in `load_state`."""
        counted = {"batches": torch.stack(self._counters)} if self._counters else {}
        return {"random": self._random.get_state(), "calls": torch.tensor(self.calls), **counted}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Back to a position that `state` gave."""
        self._random.set_state(state["random"])
        self.calls = int(state["calls"])
        for counter, value in zip(self._counters, state["batches"] if self._counters else (), strict=True):
            counter.copy_(value)

    @property
    def _has_buffers(self) -> bool:
        return self.buffers.stop > self.buffers.start

    def _mode(self, training: bool) -> None:
        for network in self._networks.values():
            network.train(training)

    def _losses(self) -> dict[str, Tensor]:
        losses = self.losses(self.minibatch())
        if not isinstance(losses, dict) or not losses:
            raise TaskMistake(f"losses() must give a dict with a scalar of each player, got {losses!r:.80}")
        if unknown := sorted(set(losses) - set(self.players)):
            raise TaskMistake(
                f"losses() has {unknown[0]!r}, which is no player; networks() has {', '.join(self.players)}"
            )
        for name, loss in losses.items():
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise TaskMistake(f"losses()[{name!r}] must be a scalar tensor, got {got}: take its mean")
            if not loss.requires_grad:
                raise TaskMistake(
                    f"losses()[{name!r}] does not depend on any network: was it detached, or taken as .item()?"
                )
        return losses

    @contextmanager
    def _scoring(self, x: Tensor, seed: int) -> Iterator[None]:
        """The networks at x in evaluation mode, with a stream for scoring; the training's stays where it is."""
        kept, self._random = self._random, random_stream(seed, SCORING_STREAM)
        try:
            self.model.load(x)
            self._mode(training=False)
            settle_spectral_norms(self._networks.values())
            with torch.no_grad(), _seeded(self._random, self.device):
                yield
        finally:
            self._random = kept


def __getattr__(name: str) -> Any:
    if name == "OwnTask":
        warnings.warn("OwnTask is now Task: from gannet import Task", DeprecationWarning, stacklevel=2)
        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextmanager
def _seeded(stream: torch.Generator, device: torch.device) -> Iterator[None]:
    """torch's global generators seeded by the stream, and afterwards as they were."""
    seed = int(torch.randint(2**62, (1,), generator=stream))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _checked(networks: Any, counters: list[Tensor]) -> dict[str, Tensor]:
    """The values of all parameters and buffers by their name in the layout; `counters` gets those of batches.

    Raises TaskMistake.
    """
    if not isinstance(networks, dict) or not networks or not all(isinstance(n, nn.Module) for n in networks.values()):
        raise TaskMistake(f"networks() must give a dict with a module of each player, got {networks!r:.80}")
    values: dict[str, Tensor] = {}
    owners: dict[int, str] = {}
    for player, network in networks.items():
        if not isinstance(player, str) or not player.isidentifier() or player == "buffers":
            raise TaskMistake(f"networks() names a player {player!r}: use a plain name, such as generator")
        counters += take_counters(network)
        named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
        if not any(isinstance(tensor, nn.Parameter) for _, tensor in named):
            raise TaskMistake(f"player {player} has no parameters: leave it out, or give it some")
        for path, tensor in named:
            name = f"{player}.{path}"
            if id(tensor) in owners:
                raise TaskMistake(
                    f"{name} is also {owners[id(tensor)]}: a tensor has one place in x, and one player; "
                    "use it by functional calls where it is shared"
                )
            owners[id(tensor)] = name
            if tensor.dtype != torch.float32:
                raise TaskMistake(f"{name} is {tensor.dtype}: x is float32, so make it float32 or keep it elsewhere")
            if isinstance(tensor, nn.Parameter) and not tensor.requires_grad:
                raise TaskMistake(f"{name} is frozen: register it as a buffer, or keep its module out of networks()")
            values[name] = tensor.detach().clone()
    return values
