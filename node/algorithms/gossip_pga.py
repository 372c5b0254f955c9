"""Gossip-PGA: gossip at every step, a global average at every H-th instead.

Chen, Yuan, Zhang, Pan, Xu, Yin, "Accelerating Gossip SGD with Periodic Global Averaging" (ICML 2021, arXiv
2105.09080), algorithm 1, with the optimistic Adam step of DP-OAdam in the place of −γ g (reconstructed):

    x_i ← mean_j (x_j − OAdam(g_j))       where k mod H = 0
    x_i ← Σ_j w_ij (x_j − OAdam(g_j))     else

H = 1 is parameter-averaging CP-OAdam, H = ∞ is DP-OAdam. A lost peer costs gossip its weight; the global average
continues without a lost worker of a star, and ends the run if a ring is broken or the star's centre is lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.algorithms.averaging import mean_of
from gannet.node.algorithms.collectives import gossip
from gannet.node.methods.gossip_pga import GossipPgaConfig
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


async def gossip_pga(worker: Worker, config: GossipPgaConfig) -> AsyncGenerator[Step, None]:
    """The two lines above. A global average takes a number among the rounds, and that round's graph is left out."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    mean = mean_of(worker, config.collective)
    for k in worker.steps():
        g = await worker.gradient(x)
        x = oadam.step(x, g)
        if config.global_every and k % config.global_every == 0:
            x = await mean(x)
        else:
            x = await gossip(worker.peers, x, worker.neighbours)
        yield Step(x, g.losses)
