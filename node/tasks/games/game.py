"""A min-max game whose saddle point is known: how near training comes needs no images, and a step costs microseconds.

    min_u max_v  c/2 |u|² + uᵀv − c/2 |v|² + ⟨shift_i, (u, −v)⟩        Σ_i shift_i = 0

The mean of all nodes' games has its saddle point at 0, whatever the shifts by which they differ. With c = 0
simultaneous gradient descent-ascent spirals out of it, and optimism does not. (An orthogonal matrix between u and v
would be the same game in other coordinates.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gannet.node.layout import TensorSpec
from gannet.node.tasks.base import Evaluation, Gradient, random_stream
from gannet.node.tasks.config import GameConfig


@lru_cache(maxsize=4)
def _shifts(size: int, world: int, spread: float, seed: int) -> Tensor:
    drawn = np.random.default_rng([seed, 1]).standard_normal((world, size))
    return torch.from_numpy(spread * (drawn - drawn.mean(axis=0))).float()


class GameTask:
    """See the module; an AnyTask. x = [u, v, padding], and the padding stays as it is."""

    score_name = "distance to the saddle point"

    def __init__(self, config: GameConfig, rank: int, world: int, seed: int) -> None:
        n, self._config, self._seed = config.dimension, config, seed
        self._shift = _shifts(2 * n, world, config.spread, seed)[rank]
        self._random = random_stream(seed, rank, 2)
        self.size = 2 * n + config.padding
        self.players = {"generator": slice(0, n), "discriminator": slice(n, self.size)}
        self.buffers = slice(self.size, self.size)
        layout = [
            TensorSpec("generator.u", (n,), 0, "generator"),
            TensorSpec("discriminator.v", (n,), n, "discriminator"),
        ]
        if config.padding:
            layout.append(TensorSpec("discriminator.padding", (config.padding,), 2 * n, "discriminator"))
        self.layout = tuple(layout)

    def initial(self) -> Tensor:
        """Standard normal u and v."""
        x = torch.zeros(self.size)
        n = 2 * self._config.dimension
        x[:n] = torch.from_numpy(np.random.default_rng([self._seed, 3]).standard_normal(n)).float()
        return x

    def gradient(self, x: Tensor) -> Gradient:
        """[v + c u, −u + c v] with this node's shift, and new noise."""
        n, c = self._config.dimension, self._config.curvature
        u, v = x[:n], x[n : 2 * n]
        noise = torch.randn(2 * n, generator=self._random).mul_(self._config.noise)
        # In place, and no operation more than needed: with many nodes each counts (see bench/virtual.py).
        field = torch.cat(((c * u).add_(v), (c * v).sub_(u))).add_(noise.add_(self._shift))
        if self._config.padding:
            field = torch.cat((field, torch.zeros(self._config.padding)))
        value = float(u @ v + c / 2 * (u @ u - v @ v))
        return Gradient(field, ("generator", "discriminator"), None, {"generator": value, "discriminator": -value})

    def distance(self, x: Tensor) -> float:
        """From x to the saddle point of all nodes' mean game, Euclidean."""
        return float(x[: 2 * self._config.dimension].norm())

    def evaluate(self, x: Tensor) -> Evaluation:
        """`distance`."""
        return Evaluation(self.distance(x), {})

    def state(self) -> dict[str, Tensor]:
        """Position in the stream of noise."""
        return {"random": self._random.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Back to a position that `state` gave."""
        self._random.set_state(state["random"])

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """A game has no images: one grey pixel each, of u's first entry."""
        return x[:1].clamp(-1, 1).expand(n, 1, 1, 1)
