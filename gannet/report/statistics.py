"""The arithmetic behind a verdict: when a curve reaches a level, a level that all arms can be asked to reach, the
mean and its interval over a few seeds, and the effect between two arms with its interval.

Nothing here knows of files or sentences, so every number can be checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from scipy.special import stdtrit  # what scipy.stats.t.ppf calls; scipy.stats takes a second to import

Better = Literal["lower", "higher"]
Curve = Sequence[tuple[float, float]]

CONFIDENCE = 0.95
# An arm whose best score covers less than this share of the distance from the common start to the best score of all
# is left out of the common target: with it, the target would be a level at which no arm has learnt anything yet.
LEAST_PROGRESS = 0.25


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. `spread` is the sample standard deviation, `low`–`high` the 95% t interval of the
    mean; all three are None with a single value, whose spread is unknown."""

    values: tuple[float, ...]
    mean: float
    spread: float | None
    stderr: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        return len(self.values)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean, spread and 95% t interval of the mean; None for no values."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(tuple(values), mean, None, None, None, None)
    spread = stdev(values)
    stderr = spread / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * stderr
    return Estimate(tuple(values), mean, spread, stderr, mean - half, mean + half)


@dataclass(frozen=True)
class Effect:
    """How arm a relates to arm b. kind "ratio": b over a (1.4 means b needed 1.4 times as much); kind "difference": b
    minus a. `low`–`high` is the interval, None when either arm has one seed."""

    kind: Literal["ratio", "difference"]
    value: float
    low: float | None
    high: float | None

    @property
    def shown(self) -> bool | None:
        """True when the interval excludes "no effect", False when it does not, None when there is no
        interval."""
        if self.low is None or self.high is None:
            return None
        neutral = 1.0 if self.kind == "ratio" else 0.0
        return self.low > neutral or self.high < neutral


def ratio_effect(a: Sequence[float], b: Sequence[float], comparisons: int = 1) -> Effect:
    """Geometric mean of b over geometric mean of a, with Welch's t interval on the logarithms.

    `comparisons` is how many such intervals must hold together at 95% (Bonferroni). Values must be positive.
    """
    if min(*a, *b) <= 0:
        raise ValueError("a ratio needs positive values")
    difference = _welch([math.log(x) for x in a], [math.log(x) for x in b], comparisons)
    value, low, high = (None if x is None else math.exp(x) for x in difference)
    assert value is not None
    return Effect("ratio", value, low, high)


def difference_effect(a: Sequence[float], b: Sequence[float], comparisons: int = 1) -> Effect:
    """Mean of b minus mean of a, with Welch's t interval; `comparisons` as in ratio_effect."""
    value, low, high = _welch(a, b, comparisons)
    assert value is not None
    return Effect("difference", value, low, high)


def _welch(
    a: Sequence[float], b: Sequence[float], comparisons: int
) -> tuple[float | None, float | None, float | None]:
    """Difference of means b − a and its interval (Welch 1947, with Satterthwaite's degrees of freedom)."""
    value = fmean(b) - fmean(a)
    if len(a) < 2 or len(b) < 2:
        return value, None, None
    share_a, share_b = stdev(a) ** 2 / len(a), stdev(b) ** 2 / len(b)
    variance = share_a + share_b
    if variance == 0.0:  # every seed gave the same number: the interval is a point
        return value, value, value
    # Computed from fractions of the variance, so that tiny variances do not underflow when squared.
    part_a, part_b = share_a / variance, share_b / variance
    freedom = 1.0 / (part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1))
    tail = (1 - CONFIDENCE) / (2 * comparisons)
    half = float(stdtrit(freedom, 1 - tail)) * math.sqrt(variance)
    return value, value - half, value + half


@dataclass(frozen=True)
class Crossing:
    """Where a curve first reaches a level. `at_most`: it was there at its first point, so x is only an
    upper bound."""

    x: float
    at_most: bool


def first_crossing(curve: Curve, level: float, better: Better) -> Crossing | None:
    """The first x at which the curve (points (x, score) by increasing x) is at `level` or better; linear
    between points."""
    sign = 1.0 if better == "lower" else -1.0
    for index, (x, score) in enumerate(curve):
        if sign * score > sign * level:
            continue
        if index == 0:
            return Crossing(x, at_most=True)
        x_before, score_before = curve[index - 1]
        return Crossing(x_before + (x - x_before) * (score_before - level) / (score_before - score), at_most=False)
    return None


@dataclass(frozen=True)
class Target:
    """A level that every run of the arms in `reached_by` reached; arms in `left_out` did not come near it."""

    level: float
    better: Better
    reached_by: tuple[str, ...]
    left_out: tuple[str, ...]


def common_target(curves: Mapping[str, Sequence[Curve]], better: Better) -> Target | None:
    """The hardest round level that every run of every arm reached, without arms that hardly learnt.

    curves: for each arm one curve per run (only arms with at least one non-empty curve count). An arm is
    left out, worst first, while the common level would lie within LEAST_PROGRESS of the start (the median
    first score). Returns None when there are no curves, or no arm improved on the start with all its runs.
    """
    sign = 1.0 if better == "lower" else -1.0
    arms = {name: [run for run in runs if run] for name, runs in curves.items()}
    arms = {name: runs for name, runs in arms.items() if runs}
    if not arms:
        return None
    # From here on smaller is better: scores are multiplied by sign.
    start = median(sign * run[0][1] for runs in arms.values() for run in runs)
    levels = {name: max(min(sign * s for _, s in run) for run in runs) for name, runs in arms.items()}
    best = min(levels.values())
    if best >= start:  # no arm learnt anything, so no level distinguishes them
        return None
    kept = dict(levels)
    while len(kept) > 1 and start - max(kept.values()) < LEAST_PROGRESS * (start - best):
        worst = max(kept.values())
        remaining = {name: level for name, level in kept.items() if level < worst}
        if not remaining:
            break
        kept = remaining
    level = sign * _rounded(max(kept.values()), start)
    left_out = tuple(name for name in arms if name not in kept)
    return Target(level, better, tuple(name for name in arms if name in kept), left_out)


def _rounded(level: float, start: float) -> float:
    """`level` (smaller is better) rounded to the easier side with as few digits as keep it clear of the
    start."""
    for digits in (2, 3, 4):
        if level == 0.0:
            break
        unit = 10.0 ** (math.floor(math.log10(abs(level))) - digits + 1)
        candidate = round(math.ceil(level / unit - 1e-9) * unit, 12)
        # A round level may be slightly easier, by at most a twentieth of what was learnt.
        if level <= candidate <= level + 0.05 * (start - level):
            return candidate
    return level
