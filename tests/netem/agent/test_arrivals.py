"""What arrivals show, for trains whose every packet's fate is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from gannet.netem.agent.arrivals import arrival_report
from gannet.netem.links.plan import FRAME_BYTES

GAP_NS = 8 * FRAME_BYTES * 1e9 / 10e6


def report(numbers: list[int], sent: int) -> dict[str, object]:
    return arrival_report([round(GAP_NS * place) for place in range(len(numbers))], numbers, sent)


def test_a_train_shows_its_rate_whatever_its_first_packets_do() -> None:
    times_ns = [0, 0, 0] + [round(n * GAP_NS) for n in range(1, 400)]
    found = arrival_report(times_ns, range(402), 402)
    assert found["received"] == 402 and found["bursts"] == found["overtakers"] == found["duplicates"] == 0
    assert found["rate_bps"] == approx(10e6, rel=1e-3)
    assert len(found["rates_bps"]) == 8
    assert found["rates_bps"] == approx([10e6] * 8, rel=1e-3)
    assert arrival_report(times_ns[:5], range(5), 5)["rate_bps"] is None
    assert arrival_report([], [], 40)["rate_bps"] is None


def test_a_train_in_bursts_shows_the_same_rate() -> None:
    gap_ns = 4 * 8 * FRAME_BYTES * 1e9 / 100e6
    found = arrival_report([round(n // 4 * gap_ns) for n in range(800)], range(800), 800)
    assert found["received"] == 800
    assert found["rate_bps"] == approx(100e6, rel=0.01)


def test_lost_packets_are_counted_in_runs_and_do_not_stretch_the_runs_between_them() -> None:
    lost = {0, 1, 50, 90, 91, 92, 199}
    kept = [n for n in range(200) if n not in lost]
    found = arrival_report([round(n * GAP_NS) for n in kept], kept, 200)
    assert (found["received"], found["bursts"]) == (193, 4)
    assert found["rate_bps"] < 0.99 * 10e6
    assert found["run_rate_bps"] == approx(10e6, rel=1e-3)


def test_who_overtakes_is_out_of_order_and_not_who_is_overtaken() -> None:
    found = report([0, 1, 5, 2, 3, 4, 6, 8, 7, 9], 10)
    assert found["overtakers"] == 2
    assert report([0, 2, 4, 9], 10)["overtakers"] == 0
    assert report([3, 2, 1, 0], 4)["overtakers"] == 3


def test_what_comes_twice_counts_once() -> None:
    found = report([0, 1, 1, 2, 3, 3, 3], 5)
    assert (found["received"], found["duplicates"], found["bursts"], found["overtakers"]) == (4, 3, 1, 0)


@given(st.permutations(range(12)), st.integers(0, 12))
def test_overtakers_are_those_that_an_earlier_one_follows(order: list[int], kept: int) -> None:
    arrived = order[:kept]
    slow = sum(any(later < number for later in arrived[place + 1 :]) for place, number in enumerate(arrived))
    assert report(arrived, 12)["overtakers"] == slow


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_bins_hold_every_packet(times_ns: list[int]) -> None:
    times_ns.sort()
    found = arrival_report(times_ns, range(len(times_ns)), len(times_ns), bin_ns=10**7)
    assert sum(found["bins"]) == len(times_ns)
    assert (
        found["first_bin"] == times_ns[0] // 10**7
        and len(found["bins"]) == times_ns[-1] // 10**7 - found["first_bin"] + 1
    )
