"""Deadlines that follow the links: of the spec, and of those in force once somebody has changed them."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.session.deadlines import (
    exchange_config,
    is_cut,
    limits_of,
    limits_over_time,
    longest_transfer_s,
    with_room_for_operators,
    with_turns,
)
from gannet.fabrics.session.hang_detector import HangDetector, grace_of
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.profile import load_profile
from gannet.netem.links.replay import replayed
from gannet.netem.links.schedule import isolated, unrolled
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace import Trace, TracePoint
from gannet.netem.links.trace_files import load_trace

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
PARCEL_BYTES, COMPUTE_S = 600_000, 2.0
FAST = LinkState(profile=load_profile("demo-10mbit"))


def plans(state: LinkState) -> tuple[InterfacePlan, ...]:
    return state.plans(ADDRESSES, ["mesh0"] * 4, 1)


def test_limits_are_those_of_the_worst_link() -> None:
    state = FAST.apply(load_profile("3g-slow"), nodes=[2])
    # 330 kbit/s up is the slowest rate. A path has half of each end's delay, so none has 3g-slow's own 100 ms.
    expected = exchange_config(PARCEL_BYTES, 4, 330_000, (25 + 100) / 2, 0.0, COMPUTE_S)
    assert limits_of(plans(state), PARCEL_BYTES, 4, COMPUTE_S) == expected
    assert expected.patience_s > limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S).patience_s


@pytest.mark.parametrize("profile", ["demo-10mbit", "2g"])
def test_operators_get_room_and_deadlines_still_grow(profile: str) -> None:
    limits = limits_of(plans(LinkState(profile=load_profile(profile))), PARCEL_BYTES, 4, COMPUTE_S)
    wide = with_room_for_operators(limits)
    type(wide).model_validate(wide.model_dump())  # chunk < round < liveness
    assert wide.patience_s == limits.patience_s
    assert wide.round_deadline_s >= max(600, limits.round_deadline_s)


def test_who_hangs_is_judged_by_the_links_in_force() -> None:
    limits = limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S)
    assert grace_of(limits, plans(FAST), PARCEL_BYTES, COMPUTE_S) == limits.patience_s / 4
    slow = plans(FAST.apply(load_profile("2g")))
    # A node asked after when the fast links' patience was over may be silent until the slow ones' is.
    slow_patience_s = limits_of(slow, PARCEL_BYTES, 4, COMPUTE_S).patience_s
    grace_s = grace_of(limits, slow, PARCEL_BYTES, COMPUTE_S)
    assert grace_s is not None and limits.patience_s + grace_s >= slow_patience_s
    assert grace_of(limits, plans(FAST.partition([[0, 1], [2, 3]], 4)), PARCEL_BYTES, COMPUTE_S) is None


segments = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), min_size=0, max_size=6)


def transfer_s(times: list[float], rates: list[float], bits: float, begin_s: float) -> float:
    """How long so many bits take from then on, segment by segment."""
    left, t_s = bits, begin_s
    for (from_s, rate), to_s in zip(zip(times, rates, strict=True), [*times[1:], inf], strict=True):
        if to_s <= t_s:
            continue
        t_s = max(t_s, from_s)
        if rate * (to_s - t_s) >= left if rate else False:
            return t_s + left / rate - begin_s
        left -= rate * (to_s - t_s) if to_s < inf else 0
        t_s = to_s
    raise AssertionError("the last rate is above 0")


@given(segments, st.integers(1, 30), st.integers(1, 500), st.lists(st.integers(0, 1200), max_size=40))
def test_no_transfer_takes_longer_whenever_it_begins(
    made: list[tuple[int, int]], last: int, bits: int, begins: list[int]
) -> None:
    times = [0.0]
    for length, _ in made:
        times.append(times[-1] + length)
    rates = [*(float(rate) for _, rate in made), float(last)]
    longest_s = longest_transfer_s(times, rates, bits)
    tried = [transfer_s(times, rates, bits, tenth / 10) for tenth in range(round(10 * times[-1]) + 11)]
    tried += [transfer_s(times, rates, bits, tenth / 10) for tenth in begins]
    assert max(tried) <= longest_s + 1e-9
    # A tenth of a second beside the worst moment, a transfer is at most 0.1 s · (fastest ÷ slowest) shorter.
    slowest = min(rate for rate in rates if rate > 0)
    assert longest_s <= max(tried) + 0.1 * (1 + max(rates) / slowest) + 1e-9


def test_a_schedule_counts_by_how_long_an_exchange_may_take() -> None:
    points = [TracePoint(at_s, bps, bps) for at_s, bps in ((0.0, 10**7), (30.0, 1000), (50.0, 10**7))]
    slow = Trace("slow", "", tuple(points), 90.0)
    links, moments = unrolled(FAST, [replayed(0, slow, 4, [2])])
    states = [(0.0, plans(links)), *((moment.at_s, plans(moment.links)) for moment in moments)]
    calm = limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S)
    assert limits_over_time(states[:1], PARCEL_BYTES, 4, COMPUTE_S) == calm
    limits = limits_over_time(states, PARCEL_BYTES, 4, COMPUTE_S)
    # 20 s at 1 kbit/s instead of 10 Mbit/s: five times as long as the exchange then takes, and no days.
    assert limits.patience_s == pytest.approx(calm.patience_s + 5 * 20, rel=0.01)
    naive = limits_of([plan for _, planned in states for plan in planned], PARCEL_BYTES, 4, COMPUTE_S)
    assert naive.patience_s > 100_000


@pytest.mark.parametrize("length_s", [5.0, 300.0])
def test_rounds_wait_out_a_cut_and_a_final_one_for_no_longer(length_s: float) -> None:
    calm = limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S)
    for until_s, longer_s in ((40 + length_s, 2 * length_s), (inf, 0.0)):
        links, moments = unrolled(FAST, [isolated(40, [1], 4, until_s)])
        states = [(0.0, plans(links)), *((moment.at_s, plans(moment.links)) for moment in moments)]
        limits = limits_over_time(states, PARCEL_BYTES, 4, COMPUTE_S)
        assert limits.patience_s == pytest.approx(calm.patience_s)  # nobody is judged meanwhile
        assert limits.round_deadline_s == pytest.approx(calm.round_deadline_s + longer_s)
        assert limits.chunk_deadline_s == pytest.approx(calm.chunk_deadline_s + longer_s)
        type(limits).model_validate(with_room_for_operators(limits).model_dump())


def test_turns_are_for_messages_longer_than_the_fastest_pipe() -> None:
    """10 Mbit/s carry 62.5 kB in twice 25 ms, some of it headers; what is slower for a while must not lower that."""
    limits = limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S)
    assert limits.pipe_bytes is None  # unless asked for, no turns
    states = [(0.0, plans(FAST)), (9.0, plans(FAST.apply(load_profile("2g"), nodes=[2])))]
    fast, both = (with_turns(limits, some, PARCEL_BYTES, COMPUTE_S) for some in (states[:1], states))
    assert fast.pipe_bytes is not None and both.pipe_bytes is not None
    assert 62_500 < fast.pipe_bytes < 1.2 * 62_500
    assert both.pipe_bytes > fast.pipe_bytes  # delays are longer then
    # Two messages, each with a delay, after the longest gradient.
    assert fast.turn_s == pytest.approx(COMPUTE_S + 2 * (8 * PARCEL_BYTES / 10e6 + 2 * 0.025))
    assert both.turn_s > fast.turn_s
    free = tuple(replace(plan, up_bps=None, down_bps=None, paths={}) for plan in plans(FAST))
    assert (
        with_turns(limits, [(0.0, free)], PARCEL_BYTES, COMPUTE_S).pipe_bytes > 10**7
    )  # no caps: no turns in practice
    type(both).model_validate(with_room_for_operators(both).model_dump())


def test_the_limits_of_shipped_traces_are_minutes_at_most() -> None:
    for name in ("lte-drive", "lte-walk"):
        found = []
        for outages in ("drop", "keep"):
            trace = replace(load_trace(name), loop=False, outages=outages)
            links, moments = unrolled(FAST, [replayed(0, trace, 4, [2])])
            states = [(0.0, plans(links)), *((moment.at_s, plans(moment.links)) for moment in moments)]
            found.append(limits_over_time(states, PARCEL_BYTES, 4, COMPUTE_S))
            assert 20 < found[-1].patience_s < 600
            assert any(is_cut(state) for _, state in states)
        assert found[0] == found[1]  # an exchange waits as long, whatever becomes of packets


class TestHangDetector:
    """Who hangs, on a clock of the test's own."""

    limits = limits_of(plans(FAST), PARCEL_BYTES, 4, COMPUTE_S)
    grace_s = limits.patience_s / 4
    fast, cut = plans(FAST), plans(FAST.isolate([3], 4))

    def play(self, *phases: tuple[tuple[InterfacePlan, ...], float]) -> float | None:
        """When node 1, suspected from the beginning, is given up; None: not in these phases (plans, seconds)."""
        hang_detector, now_s = HangDetector(self.limits, PARCEL_BYTES, COMPUTE_S), 1000.0
        hang_detector.hanging(self.fast, now_s)
        hang_detector.add(1, 7)
        for in_force, seconds in phases:
            for _ in range(round(seconds * 10)):
                now_s += 0.1
                if hang_detector.hanging(in_force, now_s) == [1]:
                    return now_s - 1000.0
        assert hang_detector.steps() == {1: 7}
        return None

    def test_a_grace_begins_when_a_node_that_is_well_would_have_said_that_it_waits(self) -> None:
        """A neighbour's wait may have begun long before the suspect's own step, where a message was lost."""
        hang_detector, late_s = HangDetector(self.limits, PARCEL_BYTES, COMPUTE_S), 40.0
        hang_detector.hanging(self.fast, 0.0)
        hang_detector.add(1, 7, from_s=late_s)
        hang_detector.add(2, 7)
        given_up: dict[int, float] = {}
        for tenth in range(1, 1000):
            for rank in hang_detector.hanging(self.fast, tenth / 10):
                given_up[rank] = tenth / 10
                hang_detector.drop(rank)
        assert given_up[2] == pytest.approx(self.grace_s, abs=0.2)
        assert given_up[1] == pytest.approx(late_s + self.grace_s, abs=0.2)

    def test_on_links_that_stay(self) -> None:
        assert self.play((self.fast, 100)) == pytest.approx(self.grace_s, abs=0.2)

    def test_nobody_hangs_while_links_are_cut_nor_until_tcp_must_know_better(self) -> None:
        assert self.play((self.cut, 3600)) is None
        given_up_s = self.play((self.fast, self.grace_s / 2), (self.cut, 40), (self.fast, 300))
        assert given_up_s == pytest.approx(self.grace_s / 2 + 40 + 40 + self.grace_s, abs=0.5)
        # TCP of Linux tries at least every two minutes.
        given_up_s = self.play((self.cut, 600), (self.fast, 600))
        assert given_up_s == pytest.approx(600 + 120 + self.grace_s, abs=0.5)

    def test_a_moment_of_slow_links_neither_excuses_for_long_nor_accuses(self) -> None:
        slow = plans(FAST.apply(load_profile("2g")))
        slow_grace_s = grace_of(self.limits, slow, PARCEL_BYTES, COMPUTE_S)
        assert slow_grace_s is not None and slow_grace_s > 100 * self.grace_s
        # Half of the time slow: twice as long, and no more.
        phases = [(slow, 0.5), (self.fast, 0.5)] * 100
        assert self.play(*phases) == pytest.approx(2 * self.grace_s, abs=1.2)
        assert self.play((slow, 0.9 * slow_grace_s)) is None

    def test_who_moves_is_suspected_no_more(self) -> None:
        hang_detector = HangDetector(self.limits, PARCEL_BYTES, COMPUTE_S)
        for rank in (1, 2, 1):
            hang_detector.add(rank, rank)
        hang_detector.drop(1)
        hang_detector.drop(3)
        assert hang_detector.steps() == {2: 2}
        hang_detector.hanging(self.fast, 0.0)
        assert hang_detector.hanging(self.fast, 10 * self.grace_s) == [2]
