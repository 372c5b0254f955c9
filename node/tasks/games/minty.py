"""A game that is not monotone and has a Minty solution: what the theorem of DPOSG asks for, and no more.

    min_u max_v  Σ_i h(u_i) − Σ_i h(v_i) + b uᵀA v,    h(s) = a/2 · log(1 + s²),  A orthogonal

with x = (u, v) and x* = 0. Reconstructed: the papers ask for such a field and leave it abstract; this one is made so
that every constant of the theorem is known.

- Minty: ⟨g(x), x − x*⟩ = a Σ_i x_i²/(1 + x_i²) ≥ 0, for the two bilinear terms cancel; 0 only at x*.
- Not monotone: h″(s) = a (1 − s²)/(1 + s²)² is negative for |s| > 1, down to −a/8 at s = √3. Seen from there the
  game is neither convex in u nor concave in v.
- Lipschitz with L = a + |b|, and g(x) = 0 only at x*.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gannet.node.layout import TensorSpec
from gannet.node.tasks.base import Evaluation, Gradient, random_stream
from gannet.node.tasks.games.config import MintyConfig


class MintyGame:
    """The game as node `rank` sees it: the field, and noise of the node's own; a gannet.node.tasks.base.AnyTask.

    `dimension`: values of u and of v. `curvature`, `coupling`: a > 0 and b. `noise`: σ, so that E‖ĝ(ξ, x) − g(x)‖²
    is σ² for one sample ξ and σ²/`batch` for the mean of a minibatch, which is what a gradient is. `start`: ‖x_0‖,
    in a direction that `seed` decides. A belongs to the game: `matrix` decides it, `seed` where that is None.
    """

    score_name = "norm of the field"

    def __init__(
        self,
        rank: int,
        dimension: int = 4,
        curvature: float = 1.0,
        coupling: float = 1.0,
        noise: float = 0.0,
        batch: int = 1,
        start: float = 4.0,
        seed: int = 0,
        matrix: int | None = None,
    ) -> None:
        if dimension < 1 or batch < 1 or curvature <= 0:
            raise ValueError(
                "a Minty game needs dimension and batch of at least 1 and a curvature above 0, got "
                f"{dimension}, {batch} and {curvature}"
            )
        n = dimension
        rotation = np.linalg.qr(np.random.default_rng(seed if matrix is None else matrix).standard_normal((n, n)))[0]
        self._matrix = torch.from_numpy(coupling * rotation).float()
        self._curvature, self._n = curvature, n
        self.layout: tuple[TensorSpec, ...] = (
            TensorSpec("generator.u", (n,), 0, "generator"),
            TensorSpec("discriminator.v", (n,), n, "discriminator"),
        )
        self.players = {"generator": slice(0, n), "discriminator": slice(n, 2 * n)}
        self.buffers = slice(2 * n, 2 * n)
        self.size = 2 * n
        self.lipschitz = curvature + abs(coupling)
        self._deviation = noise / (batch * self.size) ** 0.5  # of one coordinate
        self._seed, self._start = seed, start
        self._noise = random_stream(seed, rank, 1)

    def initial(self) -> Tensor:
        """x_0 of norm `start`, the same on every rank."""
        direction = torch.randn(self.size, generator=random_stream(self._seed, 2))
        return direction.mul_(self._start / float(direction.norm()))

    def value(self, x: Tensor) -> Tensor:
        """The objective that u minimizes and v maximizes, a scalar."""
        u, v = x[: self._n], x[self._n :]
        apart = torch.log1p(u**2).sum() - torch.log1p(v**2).sum()
        return torch.add(u @ self._matrix @ v, apart, alpha=self._curvature / 2)

    def field(self, x: Tensor) -> Tensor:
        """g(x) = [∇_u, −∇_v] of the value, without noise."""
        u, v = x[: self._n], x[self._n :]
        return self._curvature * x / (1 + x**2) + torch.cat([self._matrix @ v, -(self._matrix.T @ u)])

    def gradient(self, x: Tensor) -> Gradient:
        """ĝ(ξ, x) on a fresh minibatch ξ."""
        noise = self._deviation * torch.randn(self.size, generator=self._noise)
        value = float(self.value(x))
        losses = {"generator": value, "discriminator": -value}
        return Gradient(self.field(x) + noise, ("generator", "discriminator"), None, losses)

    def evaluate(self, x: Tensor) -> Evaluation:
        """‖g(x)‖, what the theorem bounds the mean square of; and how far x* is."""
        return Evaluation(float(self.field(x).norm()), {"distance": float(x.norm())})

    def state(self) -> dict[str, Tensor]:
        """Where the stream of the noise is."""
        return {"noise": self._noise.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._noise.set_state(state["noise"])

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        """A game has no images: n grey dots, shape (n, 1, 1, 1), of u's first value cut to [−1, 1]."""
        return x[:1].clamp(-1, 1).cpu().expand(n, 1, 1, 1)


def minty_task(config: MintyConfig, rank: int, seed: int, batch: int) -> MintyGame:
    """The game of a spec: one matrix A for all runs, so that scoring and training use the same game."""
    c = config
    return MintyGame(rank, c.dimension, c.curvature, c.coupling, c.noise, batch, c.start, seed, matrix=0)
