"""Confidence intervals: against tables, and against how often they cover the truth in simulations of one seed."""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf, sqrt
from statistics import fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links.plan import BurstPlan
from gannet.netem.measure.intervals import (
    burst_inflation,
    burst_packets,
    mean_interval,
    quantile,
    quantile_interval,
    share_is_plausible,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("sent", "lost", "loss", "plausible"),
    [
        # The central 99% of binomial (1000, 0.01) is 3 … 19, of (100, 0.5) 37 … 63 (tables).
        (1000, 2, 0.01, False),
        (1000, 3, 0.01, True),
        (1000, 19, 0.01, True),
        (1000, 20, 0.01, False),
        (100, 36, 0.5, False),
        (100, 37, 0.5, True),
        (100, 63, 0.5, True),
        (100, 64, 0.5, False),
        (500, 0, 0.0, True),
        (500, 1, 0.0, False),
        (500, 500, 1.0, True),
        (500, 499, 1.0, False),
    ],
)
def test_loss_interval(sent: int, lost: int, loss: float, plausible: bool) -> None:
    assert share_is_plausible(sent, lost, loss, loss, 0.99) is plausible


def test_a_share_between_two_bounds_is_judged_by_the_nearer() -> None:
    assert share_is_plausible(1000, 15, 0.01, 0.02, 0.99)
    assert share_is_plausible(1000, 3, 0.01, 0.02, 0.99) and not share_is_plausible(1000, 2, 0.01, 0.02, 0.99)
    assert share_is_plausible(0, 0, 0.5, 0.5, 0.99)


def test_the_ranks_of_a_median_are_those_of_the_sign_test() -> None:
    """Tables of the sign test: of 40 values the 14th and 27th enclose the median with 95%, of 10 the 2nd and 9th."""
    assert quantile_interval(list(range(1, 41)), 0.5) == (14, 27)
    assert quantile_interval(list(range(1, 11)), 0.5) == (2, 9)
    assert quantile_interval([1.0, 2.0, 3.0], 0.5) == (-inf, inf)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("count", [30, 100, 200])
def test_intervals_of_quantiles_cover_as_often_as_they_say(count: int, share: float) -> None:
    chance = random.Random(f"{count} {share}")
    covered = 0
    for _ in range(1000):
        low, high = quantile_interval(sorted(chance.random() for _ in range(count)), share, 0.95)
        covered += low <= share <= high
    assert covered >= 1000 * 0.95 - 3 * sqrt(1000 * 0.95 * 0.05)


def test_a_mean_of_blocks_has_students_interval() -> None:
    """The example of any textbook: 8 values of mean 10 and deviation 1, t = 2.365."""
    values = [8.7, 9.1, 9.3, 9.9, 10.2, 10.4, 11.0, 11.4]
    low, high = mean_interval(values) or (0, 0)
    half = 2.365 * sqrt(variance(values) / 8)
    assert (low, high) == pytest.approx((fmean(values) - half, fmean(values) + half))
    assert mean_interval([1.0]) is None


def test_wilson_by_his_own_formula() -> None:
    """0 of 40: up to z² / (n + z²); 5 of 50: 4.3% to 21.4% (Newcombe 1998, Statistics in Medicine 17)."""
    assert wilson_interval(0, 40) == pytest.approx((0, 3.8415 / 43.8415), abs=1e-4)
    assert wilson_interval(5, 50) == pytest.approx((0.0435, 0.2136), abs=1e-3)
    assert wilson_interval(0, 0) == (0, 1)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_quantiles_lie_between_the_extremes_and_grow(values: list[float], share: float) -> None:
    ordered = sorted(values)
    places = [quantile(ordered, part * share) for part in (0.0, 0.5, 1.0)]
    assert ordered[0] <= places[0] and places[-1] <= ordered[-1] + 1e-6
    assert all(a <= b + 1e-6 for a, b in pairwise(places))


def chain(bursts: BurstPlan, count: int, chance: random.Random) -> list[bool]:
    """Which of `count` packets Gilbert and Elliott's two states lose."""
    p, r = bursts.good_to_bad_percent / 100, bursts.bad_to_good_percent / 100
    bad, lost = chance.random() < p / (p + r), []
    for _ in range(count):
        lost.append(chance.random() < (bursts.loss_in_bad_percent if bad else bursts.loss_in_good_percent) / 100)
        bad = chance.random() >= r if bad else chance.random() < p
    return lost


@pytest.mark.parametrize("bursts", [BurstPlan(1, 10), BurstPlan(0.5, 25), BurstPlan(2, 50, 80, 1)])
def test_bursts_vary_as_the_formula_says_and_are_judged_by_that(bursts: BurstPlan) -> None:
    chance, count, runs = random.Random(str(bursts)), 600, 800
    losses, lengths, refused = [], [], 0
    inflation, mean = burst_inflation(bursts, count), bursts.loss_percent / 100
    for _ in range(runs):
        lost = chain(bursts, count, chance)
        losses.append(sum(lost))
        lengths.append(sum(lost[i] and not (i and lost[i - 1]) for i in range(count)))
        refused += not share_is_plausible(count, losses[-1], mean, mean, 0.99, inflation)
    # The deviation of a sample variance of 800 runs is some 5%, of a skewed one a little more.
    assert variance(losses) / (count * mean * (1 - mean)) == pytest.approx(inflation, rel=0.2)
    assert sum(losses) / sum(lengths) == pytest.approx(burst_packets(bursts), rel=0.05)
    assert refused <= runs * 0.01 + 3 * sqrt(runs * 0.01)
    plain = sum(not share_is_plausible(count, lost, mean, mean, 0.99) for lost in losses)
    assert plain > 2 * refused  # what a binomial interval would have condemned


def test_independent_losses_are_bursts_without_memory() -> None:
    """With p + r = 1 the next state does not depend on this one."""
    assert burst_inflation(BurstPlan(10, 90), 500) == pytest.approx(1)
    assert burst_packets(BurstPlan(10, 90)) == pytest.approx(1 / 0.9)
    assert burst_packets(BurstPlan(1, 20)) == pytest.approx(5)
