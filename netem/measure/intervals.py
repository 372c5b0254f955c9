"""Confidence intervals for probe measurements. Pure; shares are 0…1, `confidence` is two-sided.

- a median or another quantile: order statistics, whose coverage is binomial and needs no distribution
- a rate: Student's t interval of the means of consecutive blocks, which absorb what is correlated within a block
- a share (loss, duplicates): Wilson's interval; whether a plan explains a count: the exact binomial tail
- a share that comes in bursts: the same with the number of independent packets that has the Markov chain's variance
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil, exp, floor, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist, fmean, stdev

from gannet.netem.links.plan import BurstPlan

Interval = tuple[float, float]

# Two-sided 95% and 99% points of Student's t with 1 … 12 degrees of freedom (any table).
_T = {
    0.95: (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179),
    0.99: (63.66, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055),
}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The sample's quantile, interpolated between the two nearest values (Hyndman and Fan's type 7)."""
    place = share * (len(ordered) - 1)
    below = min(floor(place), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quantile_interval(
    ordered: Sequence[float], share: float, confidence: float = 0.95, worth: float = 1.0
) -> Interval:
    """An interval that covers the quantile `share` with at least `confidence`, from sorted, independent values.

    The number of values below the quantile is binomial (n, share), so two order statistics enclose it with a
    probability that is known whatever the distribution (David and Nagaraja, Order Statistics, 7.1). A bound that the
    sample is too small for is infinite. `worth`: the share of the values that counts where they are not independent,
    for example (1 − ρ) / (1 + ρ) with a correlation ρ of neighbours.
    """
    last = len(ordered) - 1
    counted = max(1, round(worth * len(ordered)))
    low, high = _ranks(counted, share, confidence)
    stretch = last / max(1, counted - 1)
    return (
        -inf if low is None else ordered[floor(low * stretch)],
        inf if high is None else ordered[min(last, ceil(high * stretch))],
    )


@cache
def _ranks(count: int, share: float, confidence: float) -> tuple[int | None, int | None]:
    """Indices (from 0) of the order statistics; each side misses with at most (1 − confidence) / 2, or is None."""
    tail, cumulative = (1 - confidence) / 2, 0.0
    low: int | None = None
    high: int | None = None
    for below in range(count):
        cumulative += binomial(count, below, share)
        if cumulative <= tail:
            low = below
        if high is None and cumulative >= 1 - tail:
            high = below
    return low, high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of block means (0.95 or 0.99); None for fewer than two."""
    if len(values) < 2:
        return None
    degrees = min(len(values) - 1, len(_T[confidence]))
    half = _T[confidence][degrees - 1] * stdev(values) / sqrt(len(values))
    mean = fmean(values)
    return mean - half, mean + half


def wilson_interval(count: int, of: float, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share, from `count` of `of` (Wilson 1927, JASA 22)."""
    if of <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = count / of
    centre, spread = share + z * z / (2 * of), z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (centre - spread) / (1 + z * z / of)), min(1.0, (centre + spread) / (1 + z * z / of))


def binomial(of: float, k: float, share: float) -> float:
    """P(X = k) for X binomial (of, share); real arguments stand for a weighted count."""
    if share <= 0.0 or share >= 1.0:
        return float(k == (0.0 if share <= 0.0 else of))
    ways = lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1)
    return exp(ways + k * log(share) + (of - k) * log1p(-share))


def share_is_plausible(of: int, count: int, low: float, high: float, confidence: float, inflation: float = 1) -> bool:
    """Whether a share between `low` and `high` explains `count` of `of`: it is in their central binomial interval.

    `inflation`: the count's variance over a binomial's; then of / inflation independent packets are equivalent, and
    both figures are scaled down (rounded in favour of the plan).
    """
    if of <= 0 or low * of <= count <= high * of:
        return True
    share = low if count < low * of else high
    if share <= 0.0 or share >= 1.0:
        return False
    if inflation > 1:
        scaled = max(1, round(of / inflation))
        count = min(scaled, -floor(-count / inflation) if count < share * of else floor(count / inflation))
        of = scaled
    tail = range(count + 1) if count <= of * share else range(count, of + 1)
    return sum(binomial(of, k, share) for k in tail) > (1 - confidence) / 2


def burst_inflation(bursts: BurstPlan, packets: int, passing: float = 1.0) -> float:
    """The variance of the losses among `packets` consecutive packets (Gilbert-Elliott), over a binomial's.

    States follow a Markov chain: bad with probability π = p / (p + r) in the long run, and the correlation of two
    packets d apart is λ^d, λ = 1 − p − r. With losses k and h in the good and the bad state, and µ in all,

        Var = n µ (1 − µ) + 2 (h − k)² π (1 − π) Σ_{d=1}^{n−1} (n − d) λ^d
        Σ (n − d) λ^d = n λ / (1 − λ) − λ (1 − λ^n) / (1 − λ)²

    `passing`: the share of packets that other, independent losses let through.
    """
    p, r = bursts.good_to_bad_percent / 100, bursts.bad_to_good_percent / 100
    bad, decay = p / (p + r), 1 - p - r
    mean = 1 - passing * (1 - bursts.loss_percent / 100)
    if packets < 1 or not 0 < mean < 1:
        return 1.0
    spread = passing * (bursts.loss_in_bad_percent - bursts.loss_in_good_percent) / 100
    pairs = packets * decay / (1 - decay) - decay * (1 - decay**packets) / (1 - decay) ** 2
    return max(1.0, 1 + 2 * spread**2 * bad * (1 - bad) * pairs / (packets * mean * (1 - mean)))


def burst_packets(bursts: BurstPlan, passing: float = 1.0) -> float:
    """Mean length of a run of consecutive lost packets: P(lost) / P(lost after one that was not).

    P(lost twice running) = µ² + (h − k)² π (1 − π) λ, in the terms of burst_inflation. With h = 1, k = 0: 1 / r.
    """
    p, r = bursts.good_to_bad_percent / 100, bursts.bad_to_good_percent / 100
    bad, decay = p / (p + r), 1 - p - r
    mean = 1 - passing * (1 - bursts.loss_percent / 100)
    spread = passing * (bursts.loss_in_bad_percent - bursts.loss_in_good_percent) / 100
    twice = mean**2 + spread**2 * bad * (1 - bad) * decay
    return mean / (mean - twice) if mean > twice else 1.0
