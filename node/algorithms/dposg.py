"""DPOSG: decentralized parallel optimistic stochastic gradient, the paper's two lines (arXiv 1910.12999).

Z_0 = X_0; for k = 1..N, on every worker with its own sample ξ:

    Z_k = X_{k−1} W^t − η ĝ(ξ_{k−1}, Z_{k−1})
    X_k = X_{k−1} W^t − η ĝ(ξ_k, Z_k)

One mixed X_{k−1} W^t serves both lines, so an iteration costs one new gradient, one reused, and t
exchanges of X. Where players take turns, which the paper's do not, the gradient that Z_k reuses is each player's own
last one, from whichever step it was, and X_k moves those whose turn it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from torch import Tensor

from gannet.node.algorithms.collectives import gossip
from gannet.node.methods.dposg import DposgConfig
from gannet.node.tasks.base import Gradient
from gannet.node.training.optimizers import LastGradient, with_buffers
from gannet.node.training.worker import Step, Worker


async def dposg(worker: Worker, config: DposgConfig) -> AsyncGenerator[Step, None]:
    """The state of a step is X_k; the gradient is taken at Z_k."""
    x = worker.start()
    last = worker.keep("gradient", LastGradient(worker.task))
    if last.g is None:
        last.update(await worker.gradient(x))  # ĝ(ξ_0, Z_0)
    for step in worker.steps():
        mixed = await gossip(worker.peers, x, worker.neighbours, config.rounds)
        z = _descend(worker, mixed, last.gradient, step - 1)
        g = await worker.gradient(z)
        last.update(g)
        x = _descend(worker, mixed, g, step - 1)
        yield Step(x, g.losses)


def _descend(worker: Worker, x: Tensor, g: Gradient, step: int) -> Tensor:
    """x − η ĝ for the gradient's active players, η the player's learning rate after that many steps."""
    optimizer, new = worker.config.optimizer, x.clone()
    for player in g.active:
        where = worker.task.players[player]
        new[where].sub_(g.field[where], alpha=optimizer.rate_of(player) * optimizer.decay(step))
    return with_buffers(new, worker.task, g)
