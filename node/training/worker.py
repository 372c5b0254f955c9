"""One worker: the objects that an algorithm works with.

The training loop that drives it (gannet.node.training.loop) is the same on every fabric. It knows no clock and no
network: the fabric gives it a Meter to read and a Reporter to report to.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from gannet.node.codecs import Codec, build_codec
from gannet.node.codecs.finite import all_finite
from gannet.node.config import NodeConfig
from gannet.node.data.datasets import load_shard
from gannet.node.players.config import check_methods, parts_of
from gannet.node.players.parts import players_in
from gannet.node.tasks import build_task, needs_data
from gannet.node.tasks.base import AnyTask, Gradient, ServesAnother, SplitTask
from gannet.node.topologies.topology import Neighbourhood, Topology
from gannet.node.traffic.exchange import in_turns, largest_payload, rounds_ahead
from gannet.node.training.checkpoint import Checkpoint, CheckpointError, Keeps, Owner, copied
from gannet.node.training.effects import Compute, Met
from gannet.node.training.peers import Diverged, Peers
from gannet.node.training.player_peers import PlayersPeers
from gannet.node.training.start import StartWeights

Kept = TypeVar("Kept", bound=Keeps)


@dataclass(frozen=True)
class Step:
    """Yielded by an algorithm after each gradient step: its state x (flat float32) and the losses."""

    x: Tensor
    losses: dict[str, float]


def device_of(wanted: str, rank: int, gpus: int) -> str:
    """A node's device: "cuda" means the machine's GPUs in turn, one each while there are enough of them."""
    return f"cuda:{rank % gpus}" if wanted == "cuda" and gpus else wanted


class Worker:
    """A task, a topology and peers, as an algorithm sees them.

    `task`: instead of the one in the config. `start_weights`: they take the place of the task's own in x_0.
    """

    def __init__(
        self,
        config: NodeConfig,
        rank: int,
        world: int,
        task: AnyTask | None = None,
        start_weights: StartWeights | None = None,
    ) -> None:
        torch.set_num_threads(config.threads)
        if config.device != "cpu":  # on the CPU the tasks' operations are deterministic as they are
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only then
            torch.use_deterministic_algorithms(True)
        self.config = config
        self.rank = rank
        self.world = world
        self.task = task if task is not None else self._build_task()
        self._start_weights = start_weights
        self.topology = Topology(config.topology, world)
        self.parts = parts_of(config, players_in(self.task.layout))
        check_methods(config, custom=True)
        if not self.parts:
            config.algorithm.traits.check_topology(self.topology)
            config.algorithm.traits.check_mixing(config.mixing, self.topology)
        if config.algorithm.traits.worker_player is not None and not isinstance(self.task, SplitTask):
            raise ValueError(
                f"{config.algorithm.title} needs a task whose players can live on different nodes, "
                f"and {type(self.task).__name__} is none: use task gan, or another algorithm"
            )
        self.algorithm = config.algorithm.build()
        codec = build_codec(config.codec, config.seed, rank)
        turns = in_turns(config, world, self.task.size, self.task.layout)
        size, mixing = config.exchange.segment_bytes, config.mixing
        self.peers = Peers(rank, world, codec, size, in_turns=turns, mixing=mixing)
        self.made, self.begin_s = 0, 0.0  # steps and seconds of training before this worker's
        self._now = 0  # the step that `steps` named last
        self.parts_at_work: list[Worker] = []  # where players are exchanged separately, a worker for each
        self._from: Checkpoint | None = None
        self._from_neighbour = False
        self._owners: dict[str, Keeps] = {"task": self.task, "codec": codec}
        self.leaving: list[Callable[[], Awaitable[None]]] = []  # to be awaited after the last step
        self.players = PlayersPeers(self.parts, self.peers)
        if self.parts:
            self._owners["players"] = self.players

    def _build_task(self) -> AnyTask:
        c = self.config
        shard = None
        if needs_data(c.task):
            shard = load_shard(c.data, *c.algorithm.traits.shard_of(self.rank, self.world), c.seed)
        gpus = torch.cuda.device_count() if c.device != "cpu" else 0
        device = torch.device(device_of(c.device, self.rank, gpus))
        return build_task(c.task, shard, self.rank, self.world, c.seed, c.batch, device)

    @property
    def window_rounds(self) -> int:
        """Rounds that a message may be ahead of this node: as far as peers can get, plus the configured slack."""
        return self.config.exchange.window_rounds + rounds_ahead(self.config, self.world)

    @property
    def largest_payload(self) -> int:
        """Length of this run's longest payload, bytes."""
        return largest_payload(self.config, self.task.size, self.task.layout)

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The codecs of the payloads: one for each player that is exchanged separately, else one for all."""
        return tuple(peers.codec for peers in self.players.of.values()) or (self.peers.codec,)

    @property
    def rounds(self) -> tuple[int, ...]:
        """The last exchange round, of each player that has its own rounds, or of all."""
        return tuple(peers.round for peers in self.players.of.values()) or (self.peers.round,)

    def opening(self) -> memoryview:
        """Payload that warms the channels: x_0, by the first player's codec."""
        # By a separate codec: training's must begin its random stream at the start, as on every fabric.
        return build_codec(next((part.codec for part in self.parts.values()), self.config.codec)).encode(
            self.initial()
        )

    @property
    def schema(self) -> int:
        """64-bit hash of the facts that both ends of an exchange must agree on: layout, dtype, codec."""
        layout = [(spec.name, tuple(spec.shape), spec.start) for spec in self.task.layout]
        codecs = [part.codec for part in self.parts.values()] or self.peers.codec.name
        text = repr((layout, self.task.size, codecs))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")

    @cached_property
    def owner(self) -> Owner:
        """The owner written into its checkpoints."""
        return Owner.of(self.config, self.rank, self.world, f"{self.schema:016x}")

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Restore a node's state before training. Raises CheckpointError if the checkpoint is not this node's."""
        self.owner.check(checkpoint.owner, f"checkpoint of node {checkpoint.owner.rank} at step {checkpoint.step}")
        self._from, self.begin_s = checkpoint, checkpoint.t_s
        self.made = self._now = checkpoint.step
        self.peers.round, self.peers.codec_bytes = checkpoint.round, checkpoint.codec_bytes
        for name in list(self._owners):
            self._load(name)

    def come_in(self, neighbour: Checkpoint, met: Met, t_s: float) -> None:
        """Begin in the middle of a run, at the step of a meeting: with a neighbour's x and what its algorithm keeps.

        Random streams and the place in the data stay this node's own. `t_s`: the training clock. Raises
        CheckpointError where the neighbour's state does not fit.
        """
        own = self.owner
        own.check(replace(neighbour.owner, rank=own.rank), f"state of node {neighbour.owner.rank}")
        self._from, self.begin_s, self._from_neighbour = neighbour.without(list(self._owners)), t_s, True
        self.made = self._now = met.step
        self._enter(met)

    def go_on_at(self, met: Met) -> int:
        """Continue after a meeting; returns the number of the step that now counts as the last."""
        for worker in (self, *self.parts_at_work):
            worker._now = met.step
        self._enter(met)
        return met.step

    def _enter(self, met: Met) -> None:
        for peers, number in zip(list(self.players.of.values()) or [self.peers], met.rounds, strict=True):
            peers.round = number

    def keep(self, name: str, thing: Kept, own: bool = False) -> Kept:
        """Register state of an algorithm besides x; in a resumed run, returns it as it was in the checkpoint.

        No state that decides later steps may be left out: a checkpoint has x, the kept objects, and the worker's own.
        `own`: it says something of this node alone, so that one that comes back with a neighbour's state leaves it as
        it is at the start of a run.
        """
        if name in self._owners or "." in name:
            raise ValueError(f"{name!r} is no name for what an algorithm keeps, or there is one already")
        self._owners[name] = thing
        if self._from is not None and own and self._from_neighbour:
            self._from.take(name)
        elif self._from is not None:
            self._load(name)
        return thing

    def _load(self, name: str) -> None:
        assert self._from is not None
        try:
            self._owners[name].load_state(self._from.take(name))
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint of node {self.rank} at step {self.made}: no state of {name!r} that fits here ({error}); "
                "resume with the version that wrote it"
            ) from None

    def checkpoint(self, step: int, t_s: float, x: Tensor) -> Checkpoint:
        """A copy of the state that decides the steps after this one."""
        tensors = copied(self._owners, x)
        return Checkpoint(self.owner, step, t_s, self.peers.round, self.peers.codec_bytes, tensors)

    def settle(self) -> None:
        """After the first step: refuse entries left in the checkpoint, which would be silently ignored."""
        if self._from is not None and self._from.tensors:
            unread = ", ".join(sorted(self._from.tensors))
            raise CheckpointError(
                f"checkpoint of node {self.rank} at step {self.made}: {unread} would be ignored by "
                f"{self.config.algorithm.title}; resume with the version that wrote it"
            )
        self._from = None

    def steps(self) -> Iterator[int]:
        """The numbers of the steps to make, counted from 1 over the whole run; a meeting may pass some over."""
        for _ in count():
            self._now += 1
            yield self._now

    def neighbours(self, number: int) -> Neighbourhood:
        """This node's neighbours in gossip round `number`, counted from 1 over the whole run."""
        return self.topology(self.rank, number)

    def initial(self) -> Tensor:
        """x_0, the same bits on every node."""
        x = self.task.initial()
        return x if self._start_weights is None else self._start_weights.put_into(x, self.task.layout)

    def served(self, x: Tensor) -> Tensor:
        """x as used for snapshots and scores, after the task's transformation (see
        gannet.node.tasks.gan.moving_average).
        """
        return self.task.served(x) if isinstance(self.task, ServesAnother) else x

    def start(self) -> Tensor:
        """x to begin with: x_0, or that of the checkpoint that this run resumes from."""
        return self.initial() if self._from is None else self._from.take_x()

    async def gradient(self, x: Tensor) -> Gradient:
        """The vector field at x on this node's next minibatch, paced as configured."""
        return await self.compute(lambda: self.task.gradient(x))

    async def compute(self, part: Callable[[], Gradient], share: float = 1.0) -> Gradient:
        """A gradient, or a part of one that has that share of the pace."""
        g = await Compute(part, share)
        if not all_finite(g.field):
            raise Diverged(f"rank {self.rank}: the gradient is not finite; losses {g.losses}")
        return g
