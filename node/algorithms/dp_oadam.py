"""DP-OAdam: decentralized parallel optimistic Adam (Liu et al., arXiv 1910.12999).

The paper gives the algorithm's setting and results; that θ is mixed while the moments m and v stay on
their node is reconstructed, not published. Without overlap the node gossips after its optimistic step,
which on the complete graph is parameter-averaging CP-OAdam. With overlap it mixes the parameters that
it computes the gradient from, so that the exchange hides behind the gradient (the order of D-PSGD,
Lian et al. 2017).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.algorithms.collectives import GossipRound, gossip
from gannet.node.methods.dp_oadam import DpOadamConfig
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


async def dp_oadam(worker: Worker, config: DpOadamConfig) -> AsyncGenerator[Step, None]:
    """x_i ← Σ_j w_ij (x_j − OAdam(g_j(x_j))), or with overlap x_i ← Σ_j w_ij x_j − OAdam(g_i(x_i))."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    for k in worker.steps():
        if k % config.every:
            g = await worker.gradient(x)
            x = oadam.step(x, g)
        elif config.overlap:
            round_ = await GossipRound(worker.peers, x, worker.neighbours).begin()
            g = await worker.gradient(x)
            move = oadam.prepare(g)  # needs no message: done while they travel
            mixed = await gossip(worker.peers, await round_.finish(), worker.neighbours, config.rounds - 1)
            x = oadam.move(mixed, move)
        else:
            g = await worker.gradient(x)
            x = await gossip(worker.peers, oadam.step(x, g), worker.neighbours, config.rounds)
        yield Step(x, g.losses)
