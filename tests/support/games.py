"""Small min-max games as tasks, so that algorithms can be tested against mathematics in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gannet.node.layout import TensorSpec
from gannet.node.tasks.base import Gradient


class BilinearGame:
    """min_u max_v uᵀA v + noise: the saddle point is 0, simultaneous gradient descent-ascent spirals out.

    `dimension` of u and of v; A is the same orthogonal matrix on every rank; the gradient has Gaussian
    noise of standard deviation `noise`, drawn anew at each call from a stream of (seed, rank).
    """

    def __init__(self, rank: int, dimension: int = 4, noise: float = 0.0, seed: int = 0, spread: float = 0.0):
        n = dimension
        matrix = np.random.default_rng(seed).standard_normal((n, n))
        self.matrix = torch.from_numpy(np.linalg.qr(matrix)[0]).float()
        self.layout = (
            TensorSpec("generator.u", (n,), 0, "generator"),
            TensorSpec("discriminator.v", (n,), n, "discriminator"),
        )
        self.players = {"generator": slice(0, n), "discriminator": slice(n, 2 * n)}
        self.buffers = slice(2 * n, 2 * n)
        self.size = 2 * n
        self._noise, self._seed, self._n = noise, seed, n
        self._random = np.random.default_rng([seed, rank, 1])
        # Shards that differ: each rank's field has an own constant shift; `spread` is its size.
        self._shift = torch.from_numpy(spread * np.random.default_rng([seed, rank, 2]).standard_normal(2 * n)).float()

    def initial(self) -> Tensor:
        return torch.from_numpy(np.random.default_rng([self._seed, 3]).standard_normal(self.size)).float()

    def gradient(self, x: Tensor) -> Gradient:
        u, v = x[: self._n], x[self._n :]
        noise = torch.from_numpy(self._noise * self._random.standard_normal(self.size)).float()
        field = torch.cat([self.matrix @ v, -(self.matrix.T @ u)]) + noise + self._shift
        value = float(u @ self.matrix @ v)
        return Gradient(field, ("generator", "discriminator"), None, {"generator": value, "discriminator": -value})

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        return None

    def generate(self, x: Tensor, n: int, seed: int) -> Tensor:
        return x[:1].expand(n, 1, 1, 1)


class MatrixGame(BilinearGame):
    """The bilinear game whose players have a matrix each, one of them a convolution's, and a short vector."""

    def __init__(self, rank: int, noise: float = 0.0, seed: int = 0, spread: float = 0.0):
        super().__init__(rank, 27, noise, seed, spread)
        self.layout = (
            TensorSpec("generator.weight", (4, 2, 3), 0, "generator"),
            TensorSpec("generator.bias", (3,), 24, "generator"),
            TensorSpec("discriminator.bias", (3,), 27, "discriminator"),
            TensorSpec("discriminator.weight", (8, 3), 30, "discriminator"),
        )
        self.size = 54


class Wide(BilinearGame):
    """All ones and no gradient, but VALUES parameters of each player: only transfer times matter."""

    VALUES = 1_000  # 8 kB a message

    def __init__(self, rank: int) -> None:
        super().__init__(rank, dimension=1)
        n = self.VALUES
        self.players = {"generator": slice(0, n), "discriminator": slice(n, 2 * n)}
        self.size, self.buffers = 2 * n, slice(2 * n, 2 * n)

    def initial(self) -> Tensor:
        return torch.ones(self.size)

    def gradient(self, x: Tensor) -> Gradient:
        return Gradient(torch.zeros(self.size), ("generator", "discriminator"), None, {})


class TurnsGame(MatrixGame):
    """The matrix game in which players move in turn: `turns[k % len(turns)]` at the k-th gradient."""

    def __init__(self, rank: int, turns: Sequence[tuple[str, ...]], noise: float = 0.0, spread: float = 0.0):
        super().__init__(rank, noise, spread=spread)
        self.turns, self._calls = turns, 0

    def gradient(self, x: Tensor) -> Gradient:
        g = super().gradient(x)
        active, self._calls = self.turns[self._calls % len(self.turns)], self._calls + 1
        for player, where in self.players.items():
            if player not in active:
                g.field[where] = 0
        return g._replace(active=active, losses={player: g.losses[player] for player in active})

    def state(self) -> dict[str, Tensor]:
        return {"calls": torch.tensor(self._calls)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._calls = int(state["calls"])
