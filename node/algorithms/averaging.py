"""The global average used by several algorithms, through a server or around a ring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from torch import Tensor

from gannet.node.algorithms.collectives import ring_all_reduce, server_average
from gannet.node.codecs.split import Split
from gannet.node.training.peers import Peers
from gannet.node.training.reforming import Average, Reforming
from gannet.node.training.worker import Worker


def mean_of(worker: Worker, collective: Literal["server", "ring"]) -> Callable[[Tensor], Awaitable[Tensor]]:
    """A function that averages a flat vector over all nodes; small tensors and buffers are sent uncompressed."""
    split = Split(worker.task.layout, worker.config.codec)
    average = server_average if collective == "server" else ring_all_reduce
    if worker.config.on_loss == "reform":
        reforming = Reforming(worker.peers, _among_members(collective))
        worker.leaving.append(reforming.leave)

        async def again(values: Tensor) -> Tensor:
            return split.unpack(await reforming.mean(split.pack(values), split.raw))

        return again

    async def mean(values: Tensor) -> Tensor:
        return split.unpack(await average(worker.peers, split.pack(values), raw=split.raw))

    return mean


def _among_members(collective: Literal["server", "ring"]) -> Average:
    """The average over those who are left; the first of them is the server."""

    async def average(peers: Peers, x: Tensor, raw: int, members: Sequence[int]) -> Tensor:
        if collective == "ring":
            return await ring_all_reduce(peers, x, raw, members)
        return await server_average(peers, x, members[0], raw, members)

    return average
