"""A token bucket a peer: how many calls pass is what the formula says, whatever they come at, in bounded memory."""

from __future__ import annotations

import random

import pytest

from gannet.node.admission.call_rate import PeerRates


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rate", "burst"), [(1.0, 1.0), (10.0, 60.0), (250.0, 4.0)])
def test_no_window_passes_more_than_its_burst_and_rate(seed: int, rate: float, burst: float) -> None:
    """And a caller that asks all the time gets all of that: burst + rate * time, but for a fraction of a call."""
    clock, source = Clock(), random.Random(seed)
    rates = PeerRates(rate, burst, clock)
    passed = []
    while clock.now_s < 20.0:
        if rates.take("a"):
            passed.append(clock.now_s)
        clock.now_s += source.expovariate(20 * rate)
    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 11):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-6
    assert len(passed) == pytest.approx(burst + rate * clock.now_s, abs=2 + 0.02 * rate * clock.now_s)


def test_peers_are_apart_and_those_that_share_a_name_add_up() -> None:
    clock = Clock()
    rates = PeerRates(1.0, 3.0, clock)
    assert [rates.take("a") for _ in range(4)] == [True] * 3 + [False]
    assert rates.take("b")
    assert [rates.take("c", share=2) for _ in range(7)] == [True] * 6 + [False]
    clock.now_s = 1.0
    assert [rates.take("a"), rates.take("a"), rates.take("c", 2), rates.take("c", 2), rates.take("c", 2)] == [
        True, False, True, True, False
    ]  # fmt: skip


def test_memory_is_bounded_and_the_busy_are_not_forgotten() -> None:
    """However many peers come by once, one that asks all the time has no more than its due."""
    rates = PeerRates(1e-9, 5.0, Clock(), peers=8)
    passed = 0
    for stranger in range(1000):
        rates.take(f"stranger {stranger}")
        passed += rates.take("busy")
    assert passed == 5 and len(rates._buckets) == 8
