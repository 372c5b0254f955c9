"""Max-min fair sharing: against cases worked out by hand, and against its definition."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.virtual.fair_share import Flow, Link, reshare


def shared(capacities: dict[str, float], *ways: str) -> list[float]:
    """The rates of flows that cross the links so named, all entered at once."""
    links = {name: Link(capacity) for name, capacity in capacities.items()}
    flows = [Flow(*(links[name] for name in way)) for way in ways]
    for flow in flows:
        flow.enter()
    reshare(links.values())
    return [flow.rate_bps for flow in flows]


@pytest.mark.parametrize(
    ("capacities", "ways", "rates"),
    [
        ({"u": 12}, ["u", "u", "u"], [4, 4, 4]),
        ({"u": 10, "a": 2, "b": 100}, ["ua", "ub"], [2, 8]),  # what one cannot use the other gets
        ({"u": 10, "a": inf}, ["ua", "a"], [10, inf]),
        ({"u": 10, "v": 4, "d": 8}, ["ud", "vd"], [4, 4]),
        ({"u": 10, "v": 3, "d": 8}, ["ud", "vd"], [5, 3]),
        # The example of Bertsekas and Gallager: three on one link, whose thirds leave two thirds on the next.
        ({"1": 1, "2": 1, "3": 1}, ["1", "12", "2", "2", "3"], [2 / 3, 1 / 3, 1 / 3, 1 / 3, 1]),
    ],
)
def test_rates_by_hand(capacities: dict[str, float], ways: list[str], rates: list[float]) -> None:
    assert shared(capacities, *ways) == pytest.approx(rates)


def test_only_flows_that_must_are_given_another_rate() -> None:
    """A ring of 50, two flows out and two in at every node: one flow leaves, and who shared with it had the rest."""
    up, down = ([Link(10.0) for _ in range(50)] for _ in range(2))
    flows = {(i, j): Flow(up[i], down[j]) for i in range(50) for j in ((i - 1) % 50, (i + 1) % 50)}
    for flow in flows.values():
        flow.enter()
    reshare([*up, *down])
    assert {flow.rate_bps for flow in flows.values()} == {5.0}
    flows[3, 4].leave()
    assert reshare([up[3], down[4]]) == {}  # 3 → 2 and 5 → 4 are held at 5 at their other ends
    flows[1, 2].leave()
    assert reshare([up[1], down[2]]) == {flows[3, 2]: 5.0}
    assert flows[3, 2].rate_bps == 10.0


capacities = st.sampled_from([1.0, 2.0, 3.5, 7.0, 30.0, inf])
moves = st.lists(
    st.tuples(st.sampled_from(["flow", "up", "down"]), st.integers(0, 5), st.integers(0, 5), capacities),
    min_size=1,
    max_size=40,
)


@given(st.lists(capacities, min_size=6, max_size=6), st.lists(capacities, min_size=6, max_size=6), moves)
def test_whatever_changes_every_flow_has_a_bottleneck(ups: list[float], downs: list[float], steps: Any) -> None:
    """The definition: nothing is overfull, and on one link of each flow nothing is free and nobody is faster."""
    up, down = [Link(c) for c in ups], [Link(c) for c in downs]
    flows: dict[tuple[int, int], Flow] = {}
    for kind, a, b, capacity in steps:
        if kind != "flow":
            link = (up if kind == "up" else down)[a]
            link.capacity_bps = capacity
            changed = [link]
        else:
            changed = [up[a], down[b]]
            if (a, b) in flows:
                flows.pop((a, b)).leave()
            else:
                flows[a, b] = Flow(*changed)
                flows[a, b].enter()
        rates = {flow: flow.rate_bps for flow in flows.values()}
        told = reshare(changed)
        assert told == {flow: rate for flow, rate in rates.items() if flow.rate_bps != rate}
        for link in (*up, *down):
            assert sum(flow.rate_bps for flow in link.flows) <= link.capacity_bps * (1 + 1e-6)
        for flow in flows.values():
            tight = [
                sum(other.rate_bps for other in link.flows) >= link.capacity_bps * (1 - 1e-6)
                and flow.rate_bps >= max(other.rate_bps for other in link.flows) * (1 - 1e-6)
                for link in flow.links
            ]
            assert any(tight) or flow.rate_bps == inf
