"""QSVRG: descent on a strongly convex sum by quantized, variance-reduced gradients, with its bits counted.

Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding" (NeurIPS 2017), section
3.3. Each epoch, from y: K processors exchange ∇f(y) in full; then, T times, processor i draws a sample j and all
broadcast, and all step:

    u_i = Q_√n(∇f_j(x) − ∇f_j(y) + ∇f(y));   x ← x − η/K Σ_i u_i;   and at the end y ← 1/T Σ x

With T = O(L/ℓ) and η = O(1/L), E[f(y)] − f* ≤ 0.9^p (f(y_1) − f*) after p epochs. Reconstructed: the constants, which
are those of Bubeck's proof for SVRG without quantization, and y as the mean of the x of its epoch.

It is next to its codec and not among the algorithms of a spec, because it minimises finite sums, where a spec trains
games, and the length of its messages is not known before encoding (see gannet.node.codecs.elias). All processors
decode the same K messages and have the same x, so one x is kept here for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import torch

from gannet.node.codecs.dither import Dither
from gannet.node.codecs.elias import code_bits, dense_bits
from gannet.node.codecs.qsgd import quantize
from gannet.node.tasks.games.convex import Array, FiniteSum

FLOAT_BITS = 32


@dataclass(frozen=True)
class Epoch:
    """Where an epoch ended, and what a processor sent in it, bits, on average over the K.

    `sparse_bits`: in the paper's code of gaps and levels; `dense_bits`: in the one without gaps, of which the paper
    says 2.8n. Both hold 32n for the full gradient.
    """

    y: Array
    sparse_bits: float
    dense_bits: float


def qsvrg(
    problem: FiniteSum,
    y: Array,
    workers: int,
    rate: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    dither: Dither | None = None,
) -> Iterator[Epoch]:
    """Epochs without end, from `y` of shape (size,).

    `rate`: η, else 1/(10L). `steps`: T, else 20 L/ℓ. `seed` decides which samples are drawn, `dither` the rounding.
    """
    n, levels = problem.size, sqrt_levels(problem.size)
    rate = 1 / (10 * problem.smoothness) if rate is None else rate
    steps = ceil(20 * problem.smoothness / problem.convexity) if steps is None else steps
    draw, rounding = np.random.default_rng(seed), Dither(seed) if dither is None else dither
    while True:
        full, x, total = problem.gradient(y), y, np.zeros(n)
        sparse = dense = FLOAT_BITS * n * workers
        for _ in range(steps):
            samples = draw.integers(0, problem.count, workers)
            u = problem.gradient(x, samples) - problem.gradient(y, samples) + full
            norms, codes = quantize(torch.from_numpy(u).float(), levels, "l2", rounding)
            sent = codes.numpy().astype(np.int64) - (levels + 1)
            x = x - rate * (norms.numpy().astype(np.float64)[:, None] * sent / levels).mean(axis=0)
            total += x
            sparse += sum(code_bits(message) for message in sent)
            dense += sum(dense_bits(message) for message in sent)
        y = total / steps
        yield Epoch(y, sparse / workers, dense / workers)


def sqrt_levels(n: int) -> int:
    """s = √n, the paper's choice that keeps E‖Q(v)‖² ≤ 2‖v‖², as a whole number not below it."""
    return ceil(sqrt(n))


def epoch_bits(n: int, steps: int) -> float:
    """The paper's bound on the bits that a processor sends in an epoch: (F + 2.8n) T + Fn, F = 32.

    2.8 n is its figure for Q_√n in the dense code. Elias omega does not reach it on Gaussian values, which take 2.94
    bits each and the norm, so this is a comparison and not an upper bound.
    """
    return (FLOAT_BITS + 2.8 * n) * steps + FLOAT_BITS * n
