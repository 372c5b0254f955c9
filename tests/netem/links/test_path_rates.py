"""Rates of single paths in states, plans, ramps and probe plans: against arithmetic by hand."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

import pytest

from gannet.netem.links.plan import InterfacePlan, PathLimit, path_rate_bps
from gannet.netem.links.profile import LinkProfile, load_profile, profile_of
from gannet.netem.links.schedule import ScheduleError, applied, ramped, unrolled
from gannet.netem.links.state import LinkState, difference
from gannet.netem.measure.probe_plan import echo_interval_s, fans, full_buffers_s
from gannet.netem.shaping.unsupported import unsupported

ADDRESSES = [f"10.0.0.{n + 1}" for n in range(3)]
BASE = LinkState(profile=profile_of({"rate": "10Mbit", "delay_ms": 20, "loss_percent": 1}))


def plans(state: LinkState) -> tuple[InterfacePlan, ...]:
    return state.plans(ADDRESSES, ["mesh0"] * 3, 7)


def at(*edges: tuple[int, int], **fields: Any) -> LinkState:
    return BASE.at_edges(dict.fromkeys(edges, profile_of(fields)))


def test_a_path_has_the_least_of_three_rates() -> None:
    slow, fast = plans(at((0, 1), rate="1Mbit")), plans(at((0, 1), rate="50Mbit"))
    assert path_rate_bps(slow, 0, 1) == 1_000_000 and path_rate_bps(fast, 0, 1) == 10_000_000
    assert path_rate_bps(slow, 1, 0) == path_rate_bps(slow, 2, 1) == 10_000_000
    both = plans(at((0, 1), down="3Mbit", up="2Mbit"))
    assert path_rate_bps(both, 0, 1) == 2_000_000
    free = plans(LinkState().at_edges({(0, 1): profile_of({"rate": "1Mbit"})}))
    assert path_rate_bps(free, 0, 1) == 1_000_000 and path_rate_bps(free, 0, 2) is None


def test_its_buffer_is_its_own_or_the_receivers_at_its_rate() -> None:
    found = [
        plans(at((0, 1), **fields))[1].limits[ADDRESSES[0]]
        for fields in (
            {"rate": "2Mbit"},
            {"rate": "2Mbit", "buffer_ms": 400},
            {"rate": "2Mbit", "buffer_bytes": 50_000},
            {"rate": "2Mbit", "buffer_packets": 9},
            {"rate": "50Mbit"},  # behind 10 Mbit/s it drains at that rate
        )
    ]
    assert [limit.buffer_bytes for limit in found] == [25_000, 100_000, 50_000, 9 * 1514, 125_000]
    assert [limit.buffer_packets for limit in found] == [None, None, None, 9, None]


def test_packets_are_as_small_as_the_slowest_path_needs() -> None:
    """At most 0.5 ms of the slowest rate, and one segment where packets are counted."""
    free = LinkState()
    for fields, segments in (
        ({"rate": "100Mbit"}, int(100e6 * 0.0005 / (8 * 1514))),
        ({"rate": "1Mbit"}, 1),
        ({"rate": "1Gbit", "buffer_packets": 100}, 1),
    ):
        edge = profile_of(fields)
        state = free.at_edges({(0, 1): edge})
        assert {plan.segments for plan in plans(state)} == {segments}
        moments = unrolled(free, [applied(1, edge, edges=[(0, 1)])])
        assert moments[0].segments == moments[1][0].links.segments == segments


def test_a_link_keeps_what_a_change_does_not_give() -> None:
    slow = at((0, 1), rate="1Mbit")
    far = slow.at_edges({(0, 1): profile_of({"delay_ms": 90})})
    assert far.rates == slow.rates and far.edges[0, 1].delay_ms == 90
    quick = far.at_edges({(0, 1): profile_of({"rate": "5Mbit"})})
    assert quick.edges == far.edges and quick.rates[0, 1].path_bps == 5_000_000
    assert far.at_edges({(0, 1): profile_of({"rate": "unlimited"})}).rates == {}
    whole = far.apply(load_profile("unshaped"), edges=[(0, 1)])  # a name says everything
    assert whole.rates == {} and whole.edges[0, 1].delay_ms == 0
    dsl = BASE.apply(load_profile("dsl"), edges=[(0, 1)])
    assert path_rate_bps(plans(dsl), 0, 1) == min(load_profile("dsl").up_bps or 0, 10_000_000)
    assert far.apply(load_profile("lte")).rates == {}  # everywhere
    assert difference(BASE, far)(BASE) == far and difference(far, BASE)(far) == BASE
    other = difference(BASE, slow)(at((2, 1), rate="3Mbit"))
    assert {edge: profile.path_bps for edge, profile in other.rates.items()} == {(0, 1): 10**6, (2, 1): 3 * 10**6}


def test_plans_travel_as_json() -> None:
    for plan in plans(at((0, 1), (2, 1), rate="1Mbit", buffer_packets=9)):
        assert InterfacePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_ramp_of_a_links_rate_is_a_straight_line() -> None:
    """From its own rate, or from that of its ends, in steps of a quarter of a second."""
    for begin_bps, base in ((2_000_000, at((0, 1), rate="2Mbit")), (10_000_000, BASE)):
        layer = ramped(10, 2, profile_of({"rate": "1Mbit"}), edges=[(0, 1)])
        _, moments = unrolled(base, [layer])
        assert [moment.at_s for moment in moments] == [10 + step / 4 for step in range(9)]
        found = [path_rate_bps(plans(moment.links), 0, 1) for moment in moments]
        line = [begin_bps + (1_000_000 - begin_bps) * (step + 0.5) / 8 for step in range(8)]
        assert found == pytest.approx([*line, 1_000_000])
        assert all(plans(moment.links)[1].paths == plans(base)[1].paths for moment in moments)
    with pytest.raises(ScheduleError, match="rate of 0>1: a ramp needs a rate at both ends"):
        unrolled(LinkState(), [ramped(0, 1, profile_of({"rate": "1Mbit"}), edges=[(0, 1)])])


def test_a_shared_buffer_has_none_for_a_single_path() -> None:
    state = LinkState(profile=profile_of({"rate": "10Mbit", "down_queue": "shared"}))
    plan = plans(state.at_edges({(0, 1): profile_of({"rate": "1Mbit"})}))[1]
    assert "path from 10.0.0.1: a rate of its own needs a buffer of its own" in unsupported(plan, "nfqueue")


def test_probes_heed_them() -> None:
    network = plans(at((0, 1), rate="1Mbit").apply(profile_of({"rate": "100Mbit"}), nodes=[2]))
    fan = next(fan for fan in fans(network, [(0, 1), (2, 1)]) if fan.direction == "in")
    assert fan.rate_bps == 10_000_000 and fan.paces_bps == pytest.approx((0.9e6, 13e6 - 0.9e6))
    both = plans(at((0, 1), (2, 1), rate="1Mbit"))
    fan = next(fan for fan in fans(both, [(0, 1), (2, 1)]) if fan.direction == "in")
    assert fan.rate_bps == 2_000_000 and fan.paces_bps == pytest.approx((1.3e6, 1.3e6))
    slowest = plans(at((0, 1), rate="8kbit"))
    assert echo_interval_s(slowest, [(0, 1)]) > 10 * echo_interval_s(plans(BASE), [(0, 1)])
    assert full_buffers_s(network[0], network[1]) == pytest.approx(0.1 + ceil(1e6 * 0.1 / 8) * 8 / 1e6 + 0.02112)


def test_a_limit_is_no_part_of_the_other_direction() -> None:
    found = plans(at((0, 1), rate="1Mbit"))
    assert [dict(plan.limits) for plan in found] == [{}, {ADDRESSES[0]: PathLimit(1_000_000, 15_140)}, {}]
    assert LinkProfile().path_bps is None
