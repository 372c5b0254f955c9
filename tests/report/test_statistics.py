"""The report's arithmetic against hand-computed cases, and what must hold for any numbers."""

import math
from statistics import fmean, median

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gannet.report.statistics import common_target, difference_effect, estimate, first_crossing, ratio_effect

positive = st.floats(0.01, 1e6)
samples = st.lists(positive, min_size=1, max_size=6)
curves = st.lists(st.floats(1, 1000), min_size=2, max_size=8).map(
    lambda scores: [(float(i), score) for i, score in enumerate(scores)]
)


def test_estimate_by_hand() -> None:
    # 10, 12, 14: mean 12, standard deviation 2, error 2/√3, t(0.975, 2) = 4.302653
    found = estimate([10.0, 12.0, 14.0])
    assert found is not None and found.spread is not None and found.low is not None and found.high is not None
    assert (found.mean, found.spread, found.n) == (12.0, 2.0, 3)
    assert found.stderr == pytest.approx(2 / math.sqrt(3))
    assert found.high - found.mean == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_seed_has_no_spread() -> None:
    found = estimate([41.0])
    assert found is not None and found.mean == 41.0
    assert (found.spread, found.stderr, found.low, found.high) == (None, None, None, None)
    assert estimate([]) is None


def test_welch_by_hand() -> None:
    # Variances 4 and 16 over 3 each: error √(20/3), freedom (20/3)² / ((4/3)²/2 + (16/3)²/2) = 2.94
    effect = difference_effect([10.0, 12.0, 14.0], [16.0, 20.0, 24.0])
    assert effect.value == 8.0 and effect.low is not None and effect.high is not None
    # t(0.975) lies between that of 2 and of 3 degrees of freedom
    error = math.sqrt(20 / 3)
    assert 3.182446 * error < effect.high - 8 < 4.302653 * error
    assert effect.shown is False  # 8 ± 8.3
    assert difference_effect([10.0, 12.0, 14.0], [26.0, 30.0, 34.0]).shown is True


def test_ratio_by_hand() -> None:
    # Logarithms of the second are exactly log 2 above the first's: the same spread, ratio 2.
    effect = ratio_effect([10.0, 20.0], [20.0, 40.0])
    assert effect.value == pytest.approx(2.0)
    # standard deviation of log: log2/√2 each; error of the difference log2/√2; freedom 2
    half = 4.302653 * math.log(2) / math.sqrt(2)
    assert effect.low == pytest.approx(2 * math.exp(-half), rel=1e-5)
    assert effect.high == pytest.approx(2 * math.exp(half), rel=1e-5)


def test_equal_seeds_leave_no_doubt_and_one_seed_leaves_all() -> None:
    assert ratio_effect([2.0, 2.0], [3.0, 3.0]).shown is True
    assert ratio_effect([2.0, 2.0], [2.0, 2.0]).shown is False
    assert ratio_effect([2.0], [3.0, 3.0]).shown is None
    with pytest.raises(ValueError, match="positive"):
        ratio_effect([0.0], [1.0])


@settings(deadline=None)
@given(samples, samples, st.integers(1, 5))
def test_swapping_arms_inverts_the_effect(a: list[float], b: list[float], comparisons: int) -> None:
    there, back = ratio_effect(a, b, comparisons), ratio_effect(b, a, comparisons)
    assert there.value == pytest.approx(1 / back.value)
    assert there.shown == back.shown
    if there.low is not None and back.high is not None and there.low > 1e-100:
        assert there.low == pytest.approx(1 / back.high, rel=1e-6)
    apart, together = difference_effect(a, b, comparisons), difference_effect(b, a, comparisons)
    assert apart.value == pytest.approx(-together.value)


@settings(deadline=None)
@given(st.lists(positive, min_size=2, max_size=6), st.lists(positive, min_size=2, max_size=6))
def test_more_comparisons_never_narrow_an_interval(a: list[float], b: list[float]) -> None:
    one, three = difference_effect(a, b, 1), difference_effect(a, b, 3)
    assert one.low is not None and one.high is not None and three.low is not None and three.high is not None
    assert three.low <= one.low <= one.value <= one.high <= three.high


def test_crossing_by_hand() -> None:
    curve = [(0.0, 100.0), (10.0, 80.0), (20.0, 40.0), (30.0, 50.0)]
    crossing = first_crossing(curve, 60.0, "lower")
    assert crossing is not None and crossing.x == 15.0 and not crossing.at_most
    assert first_crossing(curve, 30.0, "lower") is None
    at_once = first_crossing(curve, 100.0, "lower")
    assert at_once is not None and at_once.at_most and at_once.x == 0.0
    rising = first_crossing([(0.0, 1.0), (4.0, 3.0)], 2.0, "higher")
    assert rising is not None and rising.x == 2.0
    assert first_crossing([], 1.0, "lower") is None


@settings(deadline=None)
@given(curves, st.floats(1, 1000))
def test_a_crossing_lies_on_the_curve_and_nowhere_before(curve: list[tuple[float, float]], level: float) -> None:
    crossing = first_crossing(curve, level, "lower")
    if crossing is None:
        assert all(score > level for _, score in curve)
    else:
        assert all(score > level for x, score in curve if x < crossing.x)
        mirrored = first_crossing([(x, -score) for x, score in curve], -level, "higher")
        assert mirrored == crossing


def test_target_is_the_hardest_level_that_all_reached() -> None:
    quick = [[(0.0, 400.0), (5.0, 59.2)], [(0.0, 400.0), (5.0, 56.0)]]
    slow = [[(0.0, 400.0), (5.0, 150.0), (9.0, 59.7)]]
    target = common_target({"quick": quick, "slow": slow}, "lower")
    assert target is not None and target.level == 60.0
    assert (target.reached_by, target.left_out) == (("quick", "slow"), ())


def test_an_arm_that_hardly_learnt_does_not_set_the_target() -> None:
    curves = {
        "good": [[(0.0, 400.0), (9.0, 60.0)]],
        "fair": [[(0.0, 400.0), (9.0, 90.0)]],
        "stuck": [[(0.0, 400.0), (9.0, 380.0)]],
        "silent": [[]],
    }
    target = common_target(curves, "lower")
    assert target is not None and target.level == 90.0
    assert (target.reached_by, target.left_out) == (("good", "fair"), ("stuck",))
    assert common_target({"silent": [[]]}, "lower") is None
    assert common_target({"worse": [[(0.0, 300.0), (9.0, 310.0)]]}, "lower") is None


@settings(deadline=None)
@given(st.lists(st.lists(curves, min_size=1, max_size=3), min_size=1, max_size=4))
def test_every_run_of_the_target_reached_it(arms: list[list[list[tuple[float, float]]]]) -> None:
    named = {str(index): runs for index, runs in enumerate(arms)}
    target = common_target(named, "lower")
    if target is None:
        start = median(run[0][1] for runs in arms for run in runs)
        assert all(any(min(score for _, score in run) >= start for run in runs) for runs in arms)
        return
    assert target.reached_by
    assert set(target.reached_by) | set(target.left_out) == set(named)
    for name in target.reached_by:
        for run in named[name]:
            assert first_crossing(run, target.level, "lower") is not None
    mirrored = common_target(
        {name: [[(x, -score) for x, score in run] for run in runs] for name, runs in named.items()}, "higher"
    )
    assert mirrored is not None and mirrored.level == -target.level and mirrored.left_out == target.left_out


@settings(deadline=None)
@given(st.lists(positive, min_size=2, max_size=8))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    assume(max(values) > min(values))
    found = estimate(values)
    assert found is not None and found.low is not None and found.high is not None
    assert found.low <= fmean(values) <= found.high
