"""Stochastic Gradient Push: push-sum over directed graphs.

Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning" (ICML 2019, arXiv
1811.10792), algorithm 1, with column-stochastic P: p_ji = 1/(1 + out-degree of i) for i itself and all it sends to.

    x_i ← x_i − η g_i(z_i);   x_i ← Σ_j p_ij x_j;   w_i ← Σ_j p_ij w_j;   z_i = x_i / w_i      (w_i = 1 at first)

A sender only needs to know its out-neighbours. Columns that sum to 1 keep Σ x and Σ w, so that every z goes to the
average though rows do not sum to 1; where they do, w stays 1. Only the topology's edges count, not its weights.
Reconstructed: the optimistic Adam step instead of −η g (taken at z, applied to x as the authors' code does with
momentum), and what happens when a message is missing, which the paper does not say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import numpy as np
import torch
from torch import Tensor

from gannet.node.methods.sgp import SgpConfig
from gannet.node.training.effects import RAW_SEGMENT, PeerLost, Tag
from gannet.node.training.optimizers import OAdam
from gannet.node.training.peers import Mixing, Peers
from gannet.node.training.worker import Step, Worker


class PushSum:
    """x and its push weight w, the whole state of push-sum at a node.

    A node subtracts exactly the share of w that it sends, and sends it as float32 whatever the codec. So Σ w stays
    the number of nodes. When a message is missing, the receiver puts its own z in the place of the sender's, with the
    last weight that came from there: z stays as it was, as in gossip where the weight goes to oneself, and the weight
    that a lost node takes away permanently is made up, so that none goes to zero.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.weight = x, 1.0
        self.last: dict[int, float] = {}  # the weight that last came from a peer

    @property
    def z(self) -> Tensor:
        """The estimate of the average, x / w, as a new tensor."""
        return self.x / self.weight

    async def round(self, peers: Peers, neighbours: Mixing) -> None:
        """Push to the round's out-neighbours, and add up what comes in."""
        number = peers.next_round()
        here = neighbours(number)
        await peers.begin_round(number, here)
        p = 1.0 / (1 + len(here.outgoing))
        share, share_weight = self.x * p, np.float32(self.weight * p)
        for to in sorted(here.outgoing, key=lambda to: (to - peers.rank) % peers.world):
            await peers.send(to, Tag(number, 0), peers.encode(share), last=False)
            await peers.send(to, Tag(number, 1 | RAW_SEGMENT), peers.raw_codec.encode(torch.tensor([share_weight])))
        x, weight = share.clone(), self.weight - len(here.outgoing) * float(share_weight)
        for source in here.incoming:
            try:
                values = await peers.receive(source, Tag(number, 0), len(x))
                came = float(await peers.receive(source, Tag(number, 1 | RAW_SEGMENT), 1))
                if came <= 0:
                    raise PeerLost(source, f"a push weight of {came}")
                self.last[source] = came
                x += values
            except PeerLost as lost:
                peers.missing.add(lost.rank)
                came = self.last.get(source, p)
                x.add_(share, alpha=came / (self.weight * p))
            weight += came
        self.x, self.weight = x, weight

    def state(self) -> dict[str, Tensor]:
        """x, w, and the weights that last came, by peer."""
        peers, weights = list(self.last), list(self.last.values())
        return {
            "x": self.x,
            "weight": torch.tensor(self.weight, dtype=torch.float64),
            "peers": torch.tensor(peers, dtype=torch.int64),
            "last": torch.tensor(weights, dtype=torch.float64),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        self.x, self.weight = state["x"], float(state["weight"])
        self.last = dict(zip(state["peers"].tolist(), state["last"].tolist(), strict=True))


async def sgp(worker: Worker, config: SgpConfig) -> AsyncGenerator[Step, None]:
    """The state of a step is z, at which the next gradient is taken."""
    z = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, z))
    pushed = worker.keep("push-sum", PushSum(z))
    while True:
        g = await worker.gradient(z)
        pushed.x = pushed.x + (oadam.step(z, g) - z)
        if g.buffers is not None:
            pushed.x[worker.task.buffers] = g.buffers * pushed.weight
        await pushed.round(worker.peers, worker.neighbours)
        z = pushed.z
        yield Step(z, g.losses)
