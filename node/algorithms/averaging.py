"""The global average used by several algorithms, through a server or around a ring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from torch import Tensor

from gannet.node.algorithms.collectives import ring_all_reduce, server_average
from gannet.node.codecs.split import Split
from gannet.node.training.worker import Worker


def mean_of(worker: Worker, collective: Literal["server", "ring"]) -> Callable[[Tensor], Awaitable[Tensor]]:
    """A function that averages a flat vector over all nodes; small tensors and buffers are sent uncompressed."""
    split = Split(worker.task.layout, worker.config.codec)
    average = server_average if collective == "server" else ring_all_reduce

    async def mean(values: Tensor) -> Tensor:
        return split.unpack(await average(worker.peers, split.pack(values), raw=split.raw))

    return mean
