"""Jitter: the distributions by which both engines spread delays, and the correlation of successive draws. Pure.

A draw is in units of `jitter_ms`: uniform in −1…1; normal with deviation 1; or Pareto with α = 3, moved to mean 0
and scaled to deviation 1. That Pareto is the one of iproute2's table, (4/3)·(U^(−1/3) − 1.5) cut off at 4, so its
draws lie in −0.77…4.9: a heavy tail without end has no deviation that a run could ever measure.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, pi, sin, sqrt
from random import Random
from statistics import NormalDist

_SHAPE = 1 / 3  # 1/α
_PARETO_SCALE, _PARETO_MEAN, _PARETO_CUT = 4 / 3, 1.5, 4.5  # of the table, on U^(−1/3)


def _pareto_moments() -> tuple[float, float]:
    """Mean and deviation of iproute2's Pareto table, by integration of min(U^(−1/3), 4.5)."""
    below = _PARETO_CUT**-3  # the share that is cut off
    mean = 1.5 * (1 - below ** (2 / 3)) + _PARETO_CUT * below
    square = 3 * (1 - below ** (1 / 3)) + _PARETO_CUT**2 * below
    return _PARETO_SCALE * (mean - _PARETO_MEAN), _PARETO_SCALE * sqrt(square - mean**2)


# Draws of `tc netem distribution …` have this mean and deviation, in units of its jitter argument. The
# normal table's own differ from 0 and 1 by less than a thousandth.
TABLE_MOMENTS = {"normal": (0.0, 1.0), "pareto": _pareto_moments()}


def pareto(share: float) -> float:
    """The draw that only `share` (0 < share ≤ 1) of all draws exceed."""
    mean, deviation = TABLE_MOMENTS["pareto"]
    value = min(float(share**-_SHAPE), _PARETO_CUT)
    return (_PARETO_SCALE * (value - _PARETO_MEAN) - mean) / deviation


def deviation(distribution: str) -> float:
    """Standard deviation of a distribution's draws."""
    return 1 / sqrt(3) if distribution == "uniform" else 1.0


def normal_correlation(distribution: str, correlation: float) -> float:
    """The correlation of normal variables whose draws then have `correlation` (0…1): a Gaussian copula.

    For uniform draws 2·sin(π·r/6); for Pareto the Mehler series Σ aₖ²·ρᵏ/k! of the Hermite coefficients, inverted.
    """
    if distribution == "normal" or not correlation:
        return correlation
    if distribution == "uniform":
        return 2 * sin(pi * correlation / 6)
    # Hermite coefficients by the trapezoid rule over −8…8.
    step = 0.02
    grid = [step * n for n in range(-400, 401)]
    weights = [step * exp(-z * z / 2) / sqrt(2 * pi) for z in grid]
    values = [pareto(max(1e-300, erfc(z / sqrt(2)) / 2)) for z in grid]
    older, newer = [1.0] * len(grid), grid
    terms, factorial = [], 1.0
    for k in range(1, 16):
        factorial *= k
        a = sum(w * v * h for w, v, h in zip(weights, values, newer, strict=True))
        terms.append(a * a / factorial)
        older, newer = newer, [z * h - k * o for z, h, o in zip(grid, newer, older, strict=True)]
    total = sum(terms)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if sum(t * middle ** (k + 1) for k, t in enumerate(terms)) < correlation * total:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sampler(distribution: str, correlation: float, random: Random) -> Callable[[], float]:
    """A function that draws from a distribution; successive draws have `correlation` (0…1)."""
    if not correlation:
        if distribution == "normal":
            return lambda: random.gauss(0.0, 1.0)
        if distribution == "pareto":
            return lambda: pareto(1.0 - random.random())
        return lambda: 2.0 * random.random() - 1.0
    rho = normal_correlation(distribution, correlation)
    fresh, last = sqrt(1 - rho * rho), random.gauss(0.0, 1.0)

    def draw() -> float:
        nonlocal last
        last = rho * last + fresh * random.gauss(0.0, 1.0)
        if distribution == "normal":
            return last
        exceeded = erfc(last / sqrt(2)) / 2
        return pareto(max(1e-300, exceeded)) if distribution == "pareto" else 1.0 - 2.0 * exceeded

    return draw


def quantile(distribution: str, share: float) -> float:
    """The draw below which `share` (0 < share < 1) of all draws lie."""
    if distribution == "normal":
        return NormalDist().inv_cdf(share)
    return pareto(1.0 - share) if distribution == "pareto" else 2.0 * share - 1.0
