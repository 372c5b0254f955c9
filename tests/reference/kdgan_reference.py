"""KDGAN (Wang et al., NeurIPS 2018) in NumPy for players that are small MLPs, gradients written down by hand.

One move of one player at a time; plain descent of rate η. Everything random comes in from outside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = list[Array]  # W1, b1, W2, b2, W3, b3
Logits = tuple[Array, list[Array]]


def forward(w: Weights, x: Array) -> Logits:
    """Logits (n, K) and the layers' inputs."""
    kept = [x]
    for layer in (0, 2):
        kept.append(np.maximum(kept[-1] @ w[layer].T + w[layer + 1], 0))
    return kept[-1] @ w[4].T + w[5], kept


def backward(w: Weights, kept: list[Array], slope: Array) -> Weights:
    """Gradients of a loss whose derivative by the logits is `slope`."""
    gradients: Weights = []
    for layer in (4, 2, 0):
        here = kept[layer // 2]
        gradients = [slope.T @ here, slope.sum(0), *gradients]
        slope = (slope @ w[layer]) * (here > 0)
    return gradients


def softmax(h: Array) -> Array:
    e = np.exp(h - h.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def sigmoid(s: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-s)))


def gumbel(h: Array, u: Array, tau: float) -> Array:
    return softmax((np.log(softmax(h)) - np.log(-np.log(u))) / tau)


def kdgan(
    players: dict[str, Weights],
    minibatch: Callable[[], tuple[Array, Array]],
    uniform: Callable[[], Array],
    moves: list[tuple[str, float]],
    alpha: float,
    beta: float,
    gamma: float,
    rate: float,
    minimax: bool,
) -> dict[str, Weights]:
    """The players after those moves, each (who, τ); "pretrain" moves all, D against labels drawn evenly.

    `minibatch`: images (n, d) and one-hot labels (n, K). `uniform`: u for one Gumbel sample, (n, K).
    """
    for mover, tau in moves:
        x, y = minibatch()
        n = len(x)
        outs = {name: forward(w, x) for name, w in players.items()}
        c, t, d = (outs[name][0] for name in ("classifier", "teacher", "discriminator"))
        slopes: dict[str, Array] = {}
        if mover == "pretrain":
            slopes = {"classifier": (softmax(c) - y) / n, "teacher": (softmax(t) - y) / n}
            slopes["discriminator"] = ((sigmoid(d) - 1) * y + sigmoid(d) / d.shape[1]) / n
        elif mover == "discriminator":
            q_t, q_c = gumbel(t, uniform(), tau), gumbel(c, uniform(), tau)
            real = sigmoid((d * y).sum(1, keepdims=True))
            on_c, on_t = sigmoid((d * q_c).sum(1, keepdims=True)), sigmoid((d * q_t).sum(1, keepdims=True))
            slopes = {mover: (-(1 - real) * y + alpha * on_c * q_c + (1 - alpha) * on_t * q_t) / n}
        else:
            own, other = (c, t) if mover == "classifier" else (t, c)
            weight, pull = (alpha, beta) if mover == "classifier" else (1 - alpha, gamma)
            q = gumbel(own, uniform(), tau)
            found = sigmoid((d * q).sum(1, keepdims=True))
            by_q = -(found if minimax else 1 - found) * d  # of log(1 − σ(⟨d, q⟩)), or of −log σ(⟨d, q⟩)
            by_h = q * (by_q - (by_q * q).sum(1, keepdims=True)) / tau
            # log p = h − logsumexp(h): the second part moves all entries alike and leaves q as it is
            slopes = {mover: weight * by_h / n + pull * 2 * (own - other) / own.size}
        for name, slope in slopes.items():
            gradients = backward(players[name], outs[name][1], slope)
            players[name] = [w - rate * g for w, g in zip(players[name], gradients, strict=True)]
    return players
