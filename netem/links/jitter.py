"""Jitter: the distributions by which links spread delays, and how draws follow each other. Pure.

In order (`jitter_order: keep`) a packet's delay is that of a process in time, see InOrder: a running maximum over
independent draws would keep order too, but adds delay, the more the more packets are sent. Else (`reorder`) every
packet draws for itself, as in sch_netem, and may overtake others.

A draw is in units of `jitter_ms`: uniform in −1…1; normal with deviation 1; or Pareto with α = 3, moved to mean 0
and scaled to deviation 1. That Pareto is the one of iproute2's table, (4/3)·(U^(−1/3) − 1.5) cut off at 4, so its
draws lie in −0.77…4.9: a heavy tail without end has no deviation that a run could ever measure.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, inf, log, pi, sin, sqrt
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


def _from_table(value: float) -> float:
    """A draw, from the value of U^(−1/3) in iproute2's table."""
    mean, spread = TABLE_MOMENTS["pareto"]
    return (_PARETO_SCALE * (value - _PARETO_MEAN) - mean) / spread


def pareto(share: float) -> float:
    """The draw that only `share` (0 < share ≤ 1) of all draws exceed."""
    return _from_table(min(float(share**-_SHAPE), _PARETO_CUT))


def least(distribution: str) -> float:
    """The least draw of a distribution."""
    return {"uniform": -1.0, "normal": -inf, "pareto": pareto(1.0)}[distribution]


def most_jitter_ms(distribution: str, delay_ms: float) -> float:
    """The most jitter_ms that a delay holds: with more, delays would be cut off at 0, and their mean be another.

    Of a normal jitter that is half of the delay: 2% of its draws are cut off, which moves the mean by 1% of the
    deviation.
    """
    return delay_ms / {"uniform": 1.0, "normal": 2.0, "pareto": -pareto(1.0)}[distribution]


def misfit(distribution: str, delay_ms: float, jitter_ms: float) -> str:
    """Why a jitter does not fit a delay, and what does; empty: it does."""
    most_ms = most_jitter_ms(distribution, delay_ms)
    if jitter_ms <= most_ms * (1 + 1e-9):
        return ""
    needed_ms = delay_ms * jitter_ms / most_ms if most_ms else jitter_ms / most_jitter_ms(distribution, 1.0)
    return (
        f"a jitter of {jitter_ms:.4g} ms ({distribution}) does not fit a delay of {delay_ms:.4g} ms, since no packet "
        f"arrives before it is sent: give at most {most_ms:.4g} ms of jitter, or at least {needed_ms:.4g} ms of delay"
    )


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


class InOrder:
    """Jitter in time that keeps packets in order by itself: the delay rises, then falls, and so on.

    It is linear between turning points, and falls by at most 2/3 of a second per second, so that a later packet
    arrives later, however many are sent. The turning points are such that over time, and so over packets at any rate,
    delays have exactly the distribution. A process that crosses each level at a speed that does not depend on it, and
    that leaves level x, on its way out, at the rate −f′/f, has the density f (the zig-zag process of Bierkens and
    Roberts, Ann. Appl. Prob. 27, 2017): it turns where f has become an evenly drawn share of what it was at the mode.
    Each leg has a speed of its own, or a uniform jitter would be periodic.
    """

    # Seconds that a second of delay takes to build up, and to be worked off.
    RISE, FALL = (0.5, 1.5), (1.5, 3.5)
    # Jitter of a smaller deviation changes as slowly as if it had this one: an engine that follows it in steps can.
    SLOWEST_S = 0.01
    # After an idle time of so many deviations, nothing of the past matters.
    _FORGOTTEN = 1000.0

    def __init__(self, distribution: str, random: Random) -> None:
        self.distribution, self._random = distribution, random
        self._scale_s = self._jitter_s = 0.0
        self._now_s: float | None = None
        # In units of the jitter, and for time of the scale: the present leg, and where in it.
        self._time, self._begin, self._end = 0.0, 0.0, 0.0
        self._from = self._to = 0.0
        self._rising = self._resting = False

    def set(self, jitter_s: float) -> None:
        """The jitter from now on, s."""
        self._jitter_s = jitter_s
        self._scale_s = max(jitter_s, self.SLOWEST_S / deviation(self.distribution))

    def at(self, now_s: float) -> float:
        """What jitter adds to the delay of a packet sent now, s; `now_s` must not go back (if so, a little)."""
        if self._now_s is None or now_s - self._now_s > self._FORGOTTEN * self._scale_s:
            self._begin_anew(now_s)
        elif now_s > self._now_s:
            self._time += (now_s - self._now_s) / self._scale_s
            self._now_s = now_s
        while self._time >= self._end:
            self._turn()
        share = (self._time - self._begin) / (self._end - self._begin)
        return self._jitter_s * (self._from + (self._to - self._from) * share)

    def _begin_anew(self, now_s: float) -> None:
        """Begin in the middle of a leg."""
        self._now_s = now_s
        self._rising, self._to, self._end = False, self._low(), self._time
        for _ in range(1 + (self._random.random() < 0.5)):
            self._turn()
        self._time = self._begin + (self._end - self._begin) * self._random.random()

    def _turn(self) -> None:
        self._begin, self._from = self._end, self._to
        if self._rising and not self._resting and self.distribution == "pareto" and self._from >= _PARETO_MOST:
            # The cut gathers the whole tail above it in one value, 1.5 times as much as its density there: a rest.
            self._resting = True
            self._end = self._begin + _PARETO_REST * (sum(self.RISE) + sum(self.FALL)) / 2
            return
        self._resting, self._rising = False, not self._rising
        self._to = self._high() if self._rising else self._low()
        fast, slow = self.RISE if self._rising else self.FALL
        speed = fast + (slow - fast) * self._random.random()
        self._end = self._begin + max(1e-9, abs(self._to - self._from) * speed)

    def _high(self) -> float:
        if self.distribution == "normal":
            return sqrt(-2 * log(1.0 - self._random.random()))
        if self.distribution == "pareto":  # the density of U^(−1/3) falls with its fourth power
            return _from_table(min(float((1.0 - self._random.random()) ** -0.25), _PARETO_CUT))
        return 1.0

    def _low(self) -> float:
        return -self._high() if self.distribution == "normal" else least(self.distribution)


_PARETO_MOST = _from_table(_PARETO_CUT)
_PARETO_REST = _PARETO_CUT * _SHAPE * _PARETO_SCALE / TABLE_MOMENTS["pareto"][1]


def independent_s(distribution: str, jitter_ms: float, share: float = 0.95) -> float:
    """How long a delay with jitter in order must be watched to know as much of its quantile `share` as by one
    independent draw, s: measured on a hundred thousand legs. Where there is little of it, longer: see SLOWEST_S.
    """
    unit_s = max(jitter_ms / 1000, InOrder.SLOWEST_S / deviation(distribution))
    if distribution == "pareto":  # values of the tail stay long
        return unit_s * (2.6 if share <= 0.5 else 5.2 if share <= 0.75 else 9.5)
    return unit_s * {"uniform": 0.5, "normal": 2.4}[distribution]
