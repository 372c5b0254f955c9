"""DiLoCo: many local steps, then an outer Nesterov step on the nodes' mean difference.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models" (arXiv 2311.08105), algorithm 1:

    θ_i ← H local steps from θ;   Δ = mean_i (θ − θ_i);   m ← μ m + Δ;   θ ← θ − lr (Δ + μ m)

The outer optimizer is torch's SGD with nesterov=True; lr 0.7, μ 0.9 are the paper's. Reconstructed: optimistic Adam
as the inner optimizer instead of AdamW, its moments staying local as in the paper; running statistics are averaged
as they are, without momentum. With lr = 1 and μ = 0 it is CP-OAdam that averages parameters every H steps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import torch
from torch import Tensor

from gannet.node.algorithms.averaging import mean_of
from gannet.node.methods.diloco import DilocoConfig
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


class Outer:
    """The outer optimizer: θ, all nodes' common point, and the momentum m; the same bits on every node."""

    def __init__(self, theta: Tensor, buffers: slice, config: DilocoConfig) -> None:
        self.theta, self.momentum = theta, torch.zeros_like(theta)
        self._buffers, self._config = buffers, config

    def step(self, delta: Tensor) -> Tensor:
        """The new θ; `delta` is the mean of the nodes' differences."""
        c = self._config
        self.momentum = c.outer_momentum * self.momentum + delta
        theta = self.theta - c.outer_learning_rate * (delta + c.outer_momentum * self.momentum)
        theta[self._buffers] = self.theta[self._buffers] - delta[self._buffers]
        self.theta = theta
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
    outer = worker.keep("outer", Outer(x, worker.task.buffers, config))
    mean = mean_of(worker, config.collective)
    for k in worker.steps():
        g = await worker.gradient(x)
        x = oadam.step(x, g)
        if k % config.every == 0:
            x = outer.step(await mean(outer.theta - x))
        yield Step(x, g.losses)
