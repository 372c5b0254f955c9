"""DiLoCo: many local steps, then an outer Nesterov step on the nodes' mean difference.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models" (arXiv 2311.08105), algorithm 1:

    θ_i ← H local steps from θ;   Δ = mean_i (θ − θ_i);   m ← μ m + Δ;   θ ← θ − lr (Δ + μ m)

The outer optimizer is torch's SGD with nesterov=True; lr 0.7, μ 0.9 are the paper's. Reconstructed: optimistic Adam
as the inner optimizer instead of AdamW, its moments staying local as in the paper; running statistics are averaged
as they are, without momentum; a player that sits out a whole period is left alone. With lr = 1 and μ = 0 it is
CP-OAdam that averages parameters every H steps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping

import torch
from torch import Tensor

from gannet.node.algorithms.averaging import mean_of
from gannet.node.methods.diloco import DilocoConfig
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


class Outer:
    """The outer optimizer: θ, all nodes' common point, and the momentum m; the same bits on every node."""

    def __init__(self, theta: Tensor, players: Iterable[slice], buffers: slice, config: DilocoConfig) -> None:
        self.theta, self.momentum = theta, torch.zeros_like(theta)
        self._players, self._buffers, self._config = list(players), buffers, config

    def step(self, delta: Tensor) -> Tensor:
        """The new θ; `delta` is the mean of the nodes' differences.

        A player that has not moved on any node, as it was not its turn, stays where it is, and its momentum as it
        was. That is read off `delta`, which is the same on all nodes.
        """
        c = self._config
        momentum = c.outer_momentum * self.momentum + delta
        theta = self.theta - c.outer_learning_rate * (delta + c.outer_momentum * momentum)
        theta[self._buffers] = self.theta[self._buffers] - delta[self._buffers]
        for player in self._players:
            if not bool(delta[player].any()):
                theta[player], momentum[player] = self.theta[player], self.momentum[player]
        self.theta, self.momentum = theta, momentum
        return theta

    def state(self) -> dict[str, Tensor]:
        """θ and m."""
        return {"theta": self.theta, "momentum": self.momentum}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        self.theta, self.momentum = state["theta"], state["momentum"]


async def diloco(worker: Worker, config: DilocoConfig) -> AsyncGenerator[Step, None]:
    """Between exchanges the state of a step is the node's own θ_i."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    outer = worker.keep("outer", Outer(x, worker.task.players.values(), worker.task.buffers, config))
    mean = mean_of(worker, config.collective)
    for k in worker.steps():
        g = await worker.gradient(x)
        x = oadam.step(x, g)
        if k % config.every == 0:
            x = outer.step(await mean(outer.theta - x))
        yield Step(x, g.losses)
