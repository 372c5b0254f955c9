"""MD-GAN: settings, capabilities and traffic."""

from __future__ import annotations

from itertools import permutations
from math import floor, log, prod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.codecs.registry import CodecSetting, codec_config, names_of
from gannet.node.methods.base import Method
from gannet.node.methods.formulas import FlatVector, Group, Traffic, collective_edges
from gannet.node.topologies.weights import Edge

if TYPE_CHECKING:
    from gannet.node.tasks.config import TaskSetting
    from gannet.node.topologies.topology import Topology


class MdGanConfig(Method):
    """MD-GAN: rank 0 holds the generator and no data, each other node a discriminator and its share of the data.

    `local_steps` (L): the discriminator's steps for each of the generator's. `swap_every`: the number of the
    generator's steps after which the discriminators change places, about an epoch in the paper; null for never.
    `batches` (k): minibatches generated a step, of which a worker gets two; null for ⌊ln N⌋ of N workers, and one at
    least.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.md_gan:md_gan"
    not_in_islands: ClassVar[str] = "trains one model on all nodes"
    gossips: ClassVar[bool] = False
    keeps_mean: ClassVar[bool] = False
    worker_player: ClassVar[str | None] = "discriminator"
    not_per_player: ClassVar[str] = "sends samples and slopes between players that live on different nodes"

    name: Literal["md-gan"]
    local_steps: PositiveInt = 1
    swap_every: PositiveInt | None = 100
    batches: PositiveInt | None = None

    def batch_count(self, world: int) -> int:
        """k."""
        return self.batches or max(1, floor(log(world - 1)))

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        return {} if self.swap_every is None else {"swap_every": (self.swap_every, "discriminators change places")}

    @property
    def paces_per_step(self) -> int:
        return self.local_steps

    def shard_of(self, rank: int, world: int) -> tuple[int, int]:
        """The server trains on no data: it is given worker 1's."""
        return max(0, rank - 1), world - 1

    def check_topology(self, topology: Topology) -> None:
        """Only the number of nodes counts."""
        if topology.world < 2:
            raise ValueError("md-gan is a server and its workers: give it 2 nodes at least, or use algorithm local")
        if self.batch_count(topology.world) >= topology.world:
            raise ValueError(
                f"algorithm.batches: {topology.world - 1} workers cannot use {self.batches} minibatches a step; "
                f"give {topology.world - 1} at most"
            )

    def check_task(self, task: TaskSetting) -> None:
        """It requires a GAN without labels, and counts the discriminator's steps itself."""
        if task.name != "gan":
            raise ValueError(f"md-gan takes a GAN's players apart, the task is {task.name}: use another algorithm")
        if task.critic_steps != 1:
            raise ValueError(
                f"task.critic_steps: md-gan counts the discriminator's steps itself; leave it at 1 and set "
                f"algorithm.local_steps: {task.critic_steps}"
            )
        if task.classes is not None:
            raise ValueError(
                "task.classes: md-gan's samples travel without their labels; leave classes out, or use another "
                "algorithm"
            )

    def check_codec(self, codec: CodecSetting) -> None:
        """Images and discriminators are sent in half precision at least."""
        if not codec_config(codec).traits.casts:
            raise ValueError(
                f"codec {codec} quantizes gradients, and md-gan exchanges images and discriminators as well: "
                f"use codec {names_of(casts=True)}"
            )

    def edges(self, group: Group) -> tuple[Edge, ...]:
        """To the server and back; and between all workers, since discriminators move between any two of them."""
        star = collective_edges("server", group.world)
        swaps = [Edge(*pair) for pair in permutations(range(1, group.world), 2)] if self.swap_every else []
        return tuple(sorted({*star, *swaps}))

    def rounds_ahead(self, group: Group) -> int:
        """A worker may swap after a step while another has not entered the swap before that step."""
        return 3

    def message_bytes(self, group: Group, vector: FlatVector) -> int:
        """All that a worker may receive in a step: the images to judge, and a discriminator."""
        return 2 * _samples_bytes(group) + _discriminator_bytes(group, vector)

    def largest_payload(self, group: Group, vector: FlatVector) -> int:
        return max(super().largest_payload(group, vector), _samples_bytes(group))

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """A step: one or two minibatches of images to each worker, one of slopes back, and a swap's share."""
        world, samples, down = group.world, _samples_bytes(group), min(2, self.batch_count(group.world))
        swaps = self.swap_every is not None and world > 2
        swapped = _discriminator_bytes(group, vector) / self.swap_every if swaps and self.swap_every else 0
        sent = tuple(int(samples + swapped) if rank else (world - 1) * down * samples for rank in range(world))
        received = tuple(int(down * samples + swapped) if rank else (world - 1) * samples for rank in range(world))
        return Traffic(self.edges(group), sent, received, 2, (max(sent), max(received)), 1, changing=swaps)


def _samples_bytes(group: Group) -> int:
    """A minibatch of images, or of slopes, as a payload."""
    return group.codec.wire_bytes(group.config.batch * prod(group.config.data.image_shape))


def _discriminator_bytes(group: Group, vector: FlatVector) -> int:
    values = sum(spec.place.stop - spec.start for spec in vector.tensors if spec.player == "discriminator")
    return group.codec.wire_bytes(values)
