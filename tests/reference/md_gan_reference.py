"""MD-GAN (Hardy, Le Merrer, Sericola 2019, arXiv 1811.03850, algorithm 1) in NumPy, for one small game.

The game: G(z) = W z + c against D(s) = v·s + q |s|²/2, the critic's loss mean D(G(z)) − mean D(s) + (|v|² + q²)/2,
the generator's −mean D(G(z)). The gradients are written down here, player by player.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LocalStep = Callable[[Array], Array]


def md_gan(
    start: tuple[Array, Array, Array, float],
    noise: Callable[[int], Array],
    real: Sequence[Callable[[], Array]],
    generator_step: LocalStep,
    critic_steps: Sequence[LocalStep],
    batches: int,
    local_steps: int,
    cycle: Callable[[int], Sequence[int] | None],
    steps: int,
) -> tuple[Array, Array]:
    """([W | c] after each step, (steps, size); [v | q] of each worker, (steps, workers, size)).

    `start`: W, c, v, q. `noise(k)`: (k, batch, latent). `real[n]()`: worker n's next minibatch. `cycle(i)`: the
    workers in the order in which discriminators are passed on after step i, from 1, if they are.
    """
    w, c, v0, q0 = start
    workers = len(real)
    v, q = np.tile(v0, (workers, 1)), np.full(workers, q0)
    generators, critics = [], []
    for i in range(1, steps + 1):
        z = noise(batches)
        made = z @ w.T + c
        feedback = np.zeros_like(made)
        for n in range(workers):
            x_d, x_g = made[(n + 1) % batches], made[n % batches]
            for _ in range(local_steps):
                s = real[n]()
                slope_v = x_d.mean(axis=0) - s.mean(axis=0) + v[n]
                slope_q = 0.5 * np.mean((x_d**2).sum(axis=1)) - 0.5 * np.mean((s**2).sum(axis=1)) + q[n]
                moved = critic_steps[n](np.append(slope_v, slope_q))
                v[n], q[n] = v[n] - moved[:-1], q[n] - moved[-1]
            feedback[n % batches] -= (v[n] + q[n] * x_g) / len(x_g) / workers
        slope_w = sum(np.outer(f, e) for fs, es in zip(feedback, z, strict=True) for f, e in zip(fs, es, strict=True))
        moved = generator_step(np.concatenate([np.ravel(slope_w), feedback.sum(axis=(0, 1))]))
        w, c = w - moved[: w.size].reshape(w.shape), c - moved[w.size :]
        if (order := cycle(i)) is not None:
            given = [order[-1], *order[:-1]]  # whose discriminator each of them gets
            v[list(order)], q[list(order)] = v[given], q[given]
        generators.append(np.concatenate([w.ravel(), c]))
        critics.append(np.column_stack([v, q]))
    return np.stack(generators), np.stack(critics)
