"""Bounds proved in the DPOSG paper, as functions to compare measurements with.

Liu et al. (arXiv 1910.12999, theorem of the workshop version). M `workers`, each with minibatches of m = `batch`
samples, one sample's noise of variance σ² (`noise` is σ), ‖g‖ ≤ G, g L-Lipschitz, a Minty solution x*, and iterates
that stay within D of one another; ρ = max(|λ2(W)|, |λM(W)|).
"""

from __future__ import annotations

from math import log, sqrt


def rounds_needed(rho: float, workers: int, batch: int, largest_gradient: float, noise: float) -> float:
    """Gossip rounds t from which the theorem holds: log_{1/ρ}(1 + M √(mMG² + σ²)/(4σ)). 0 ≤ ρ < 1; σ above 0.

    A real number; 0 where one round averages exactly.
    """
    if rho == 0 or workers == 1:
        return 0.0
    root = sqrt(batch * workers * largest_gradient**2 + noise**2)
    return log(1 + workers * root / (4 * noise)) / log(1 / rho)


def stationarity_bound(
    iterations: int,
    workers: int,
    batch: int,
    rate: float,
    noise: float,
    start_distance: float,
    diameter: float,
    lipschitz: float,
) -> float:
    """(1/N) Σ_k E‖g(z̄_k)‖² ≤ 8 [‖x_0 − x*‖²/(η²N) + 20σ²/(mM) + 48(DLσ + σ²)/√(mM)], η the `rate`."""
    samples = batch * workers
    spread = 48 * (diameter * lipschitz * noise + noise**2) / sqrt(samples)
    return 8 * (start_distance**2 / (rate**2 * iterations) + 20 * noise**2 / samples + spread)
