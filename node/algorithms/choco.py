"""CHOCO-SGD: gossip of compressed differences, exact in the limit for any compression.

Koloskova, Stich, Jaggi, "Decentralized Stochastic Optimization and Gossip Algorithms with Compressed Communication"
(ICML 2019, arXiv 1902.00340): CHOCO-Gossip (algorithm 1) after a local step (algorithm 2):

    q_i = C(x_i − x̂_i);   x̂_j ← x̂_j + q_j  for all j known;   x_i ← x_i + γ Σ_j w_ij (x̂_j − x̂_i)

Every node keeps a replica x̂_j of each neighbour, bit-equal to the neighbour's own. With an exact codec and γ = 1 it
is gossip. Its theorem requires a fixed symmetric W. Reconstructed: the optimistic Adam step instead of −η g, and x̂ =
x_0 initially instead of 0, which all nodes know without communication.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import torch
from torch import Tensor

from gannet.node.algorithms.compressed import Channel
from gannet.node.methods.choco import ChocoConfig
from gannet.node.training.effects import PeerLost
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


class Replicas:
    """x̂ of this node and of its neighbours: CHOCO's state.

    A replica that has missed a difference stays wrong, so a peer that fails once is left out from then on, and its
    weight is added to the node's own.
    """

    def __init__(self, worker: Worker, x: Tensor) -> None:
        self._worker, self._channel = worker, Channel(worker)
        self.own = x.clone()
        self.of = {j: x.clone() for j in worker.neighbours(1).incoming}
        self.gone: set[int] = set()

    async def mix(self, x: Tensor, gamma: float) -> Tensor:
        """x_i + γ Σ_j w_ij (x̂_j − x̂_i) after a round of differences, as a new tensor."""
        peers = self._worker.peers
        number = peers.next_round()
        here = self._worker.neighbours(number)
        self.own += await self._channel.send(number, x - self.own, here)
        mixed = x.clone()
        for j, weight in here.incoming.items():
            try:
                self.of[j] += await self._channel.receive(number, j)
            except PeerLost:
                self.gone.add(j)
            if j in self.gone:
                peers.missing.add(j)
            else:
                mixed.add_(self.of[j] - self.own, alpha=gamma * weight)
        return mixed

    def state(self) -> dict[str, Tensor]:
        """All replicas, and the peers left out."""
        of = {f"of-{j}": replica for j, replica in self.of.items()}
        return {"own": self.own, **of, "gone": torch.tensor(sorted(self.gone), dtype=torch.int64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        self.own, self.gone = state["own"], set(state["gone"].tolist())
        self.of = {j: state[f"of-{j}"] for j in self.of}


async def choco(worker: Worker, config: ChocoConfig) -> AsyncGenerator[Step, None]:
    """x ← x − OAdam(g(x)), then CHOCO-Gossip."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    replicas = worker.keep("replicas", Replicas(worker, x))
    while True:
        g = await worker.gradient(x)
        x = await replicas.mix(oadam.step(x, g), config.gamma)
        yield Step(x, g.losses)
