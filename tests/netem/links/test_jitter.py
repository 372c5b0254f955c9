"""Jitter against what its definition says: means, deviations and quantiles by formulas of their own, and order."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from random import Random
from statistics import NormalDist, fmean, median, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.netem.links.jitter import InOrder, independent_s, misfit, most_jitter_ms
from gannet.netem.links.plan import network_plan
from gannet.netem.links.profile import LinkProfile

DISTRIBUTIONS = ("uniform", "normal", "pareto")
ADDRESSES = ("10.77.1.10", "10.77.1.11")
CUT = 4.5


def pareto_moments() -> tuple[float, float]:
    """Mean and deviation of min(U^(−1/3), 4.5) for an even U, by adding up."""
    shares = [(n + 0.5) / 200_000 for n in range(200_000)]
    values = [min(share ** (-1 / 3), CUT) for share in shares]
    return fmean(values), pstdev(values)


PARETO = pareto_moments()


def planned(distribution: str, share: float) -> float:
    """The quantile of a draw with jitter 1."""
    match distribution:
        case "uniform":
            return 2 * share - 1
        case "normal":
            return NormalDist().inv_cdf(share)
        case _:
            return (min((1 - share) ** (-1 / 3), CUT) - PARETO[0]) / PARETO[1]


def deviation(distribution: str) -> float:
    return 1 / sqrt(3) if distribution == "uniform" else 1.0


def delays_s(distribution: str, jitter_s: float, packets_per_s: float, count: int, seed: int = 1) -> list[float]:
    process = InOrder(distribution, Random(seed))
    process.set(jitter_s)
    return [process.at(number / packets_per_s) for number in range(count)]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("packets_per_s", "seconds"), [(20, 8000), (2000, 200), (50_000, 15)])
def test_mean_and_deviation_hold_at_every_rate(distribution: str, packets_per_s: int, seconds: int) -> None:
    """Of jitter 2 ms to 40 ms around any delay; the bound is four standard errors of so long a look."""
    jitter_s = {20: 0.04, 2000: 0.02, 50_000: 0.002}[packets_per_s]
    found = delays_s(distribution, jitter_s, packets_per_s, packets_per_s * seconds)
    unit_s = jitter_s * deviation(distribution)
    error = 4 * sqrt(max(1 / packets_per_s, independent_s(distribution, 1000 * jitter_s)) / seconds)
    assert error < 0.4
    assert fmean(found) / unit_s == pytest.approx(0, abs=error)
    assert pstdev(found) / unit_s == pytest.approx(1, abs=max(0.02, error))
    found.sort()
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        below = fmean(delay_s < jitter_s * planned(distribution, share) for delay_s in found)
        assert below == pytest.approx(share, abs=0.002 + error * sqrt(share * (1 - share)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_distribution_is_right_in_the_long_run(distribution: str) -> None:
    found = sorted(delays_s(distribution, 0.02, 40, 1_000_000))
    assert fmean(found) / 0.02 == pytest.approx(0, abs=0.03)
    assert pstdev(found) / 0.02 == pytest.approx(deviation(distribution), rel=0.02)
    for share in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.985):
        below = fmean(delay_s < 0.02 * planned(distribution, share) for delay_s in found)
        assert below == pytest.approx(share, abs=0.006)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DISTRIBUTIONS),
    st.floats(1e-5, 10),
    st.floats(1, 1e6),
    st.integers(0, 1000),
)
def test_packets_keep_their_order(distribution: str, jitter_s: float, packets_per_s: float, seed: int) -> None:
    """And between two of them no more than two thirds of their distance is lost, at any rate."""
    found = delays_s(distribution, jitter_s, packets_per_s, 2000, seed)
    apart_s = 1 / packets_per_s
    assert all(b - a > -0.6667 * apart_s - 1e-9 for a, b in pairwise(found))


@given(st.sampled_from(DISTRIBUTIONS), st.lists(st.floats(0, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_the_delay_is_a_matter_of_time_and_not_of_packets(distribution: str, times: list[float], seed: int) -> None:
    many, few = (InOrder(distribution, Random(seed)) for _ in range(2))
    for process in (many, few):
        process.set(0.02)
        process.at(0.0)
    seen = {n / 100: many.at(n / 100) for n in range(501)}
    for at_s in sorted({round(t, 2) for t in times}):
        assert few.at(at_s) == pytest.approx(seen[at_s], abs=1e-9)


def test_a_change_of_jitter_goes_on_where_it_was() -> None:
    """Else every step of a ramp would be a jump of the delay, for which packets wait."""
    process = InOrder("normal", Random(3))
    last_s = None
    for step in range(1000):
        process.set(0.01 + 0.00001 * step)
        now_s = process.at(0.01 * step)
        if last_s is not None:
            assert now_s - last_s > -0.01
        last_s = now_s


def test_after_a_long_silence_it_begins_anew() -> None:
    """Rather than making up for an hour, which would hold up the packet."""
    process = InOrder("uniform", Random(1))
    process.set(0.01)
    draws = [process.at(86_400.0 * n) for n in range(2000)]
    assert fmean(draws) == pytest.approx(0, abs=0.001)
    assert pstdev(draws) == pytest.approx(0.01 / sqrt(3), rel=0.1)


def test_what_keeps_order_by_waiting_adds_delay() -> None:
    """The fault that this process mends: the running maximum over independent draws."""
    random, last_s, found = Random(1), 0.0, []
    for number in range(20_000):
        sent_s = number / 2000
        last_s = max(last_s, sent_s + 0.1 + random.gauss(0, 0.02))
        found.append(last_s - sent_s)
    assert median(found) > 0.13
    kept = [0.1 + wait_s for wait_s in delays_s("normal", 0.02, 2000, 400_000)]
    assert median(kept) == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize(
    ("distribution", "most_ms"), [("uniform", 100), ("normal", 50), ("pareto", 100 * PARETO[1] / (PARETO[0] - 1))]
)
def test_how_much_jitter_a_delay_holds(distribution: str, most_ms: float) -> None:
    assert most_jitter_ms(distribution, 100) == pytest.approx(most_ms, rel=1e-3)
    assert not misfit(distribution, 100, 0.999 * most_ms)
    said = misfit(distribution, 100, 2 * most_ms)
    assert "does not fit a delay of 100 ms" in said and "at least 200 ms of delay" in said
    if distribution != "normal":  # whose tail has no end
        assert min(delays_s(distribution, most_ms / 1000, 100, 100_000)) >= -0.1001


@pytest.mark.parametrize(("distribution", "planned_ms"), [("uniform", 70.7), ("normal", 50), ("pareto", 70.7)])
def test_a_path_between_unequal_ends_has_what_its_delay_holds(distribution: str, planned_ms: float) -> None:
    """√((100² + 0²) / 2) ms of jitter, around half of 200 ms."""
    far = LinkProfile.model_validate({"delay_ms": 200, "jitter_ms": 100, "jitter_distribution": distribution})
    plans = network_plan(far, {1: LinkProfile()}, {}, ADDRESSES, "mesh0")
    for plan, source in zip(plans, ADDRESSES[::-1], strict=True):
        assert plan.paths[source].delay_ms == 100
        assert plan.paths[source].jitter_ms == pytest.approx(planned_ms, abs=0.05)
