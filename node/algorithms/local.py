"""Local training: every node descends alone on its own shard. The floor that exchange must beat."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.methods.local import LocalConfig
from gannet.node.training.optimizers import OPTIMIZERS
from gannet.node.training.worker import Step, Worker


async def local(worker: Worker, config: LocalConfig) -> AsyncGenerator[Step, None]:
    """x_k = x_{k−1} − optimizer(g(x_{k−1}))."""
    x = worker.start()
    optimizer = worker.keep(config.method, OPTIMIZERS[config.method](worker.task, worker.config.optimizer, x))
    while True:
        g = await worker.gradient(x)
        x = optimizer.step(x, g)
        yield Step(x, g.losses)
