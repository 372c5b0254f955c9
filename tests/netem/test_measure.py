"""Certificates of real links: what is ordered and in force is trusted, what is not in force shows where it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from link_lab import ADDRESSES, Lab, node_plan

from netem.certificate import Certificate
from netem.measure import measure_links
from netem.plan import BurstPlan, InterfacePlan, PathPlan
from netem.tolerances import TOLERANCES

pytestmark = pytest.mark.slow


def apply(lab: Lab, engine: str, plans: Sequence[InterfacePlan]) -> None:
    for agent, plan in zip(lab.agents, plans, strict=False):
        agent.request("apply", engine=engine, plan=plan.to_json())


def measured(lab: Lab, plans: Sequence[InterfacePlan], edges: Sequence[tuple[int, int]]) -> Certificate:
    return measure_links(dict(enumerate(lab.agents)), plans, edges)


def test_all_peers_at_once_find_the_downlink_and_the_uplink_that_are_too_slow(lab: Lab, engine: str) -> None:
    plans = [node_plan(rank, 10**7, 10**7, delay_ms=5) for rank in range(4)]
    complete = list(permutations(range(4), 2))
    apply(lab, engine, plans)
    certificate = measured(lab, plans, complete)
    assert certificate.trusted, certificate.reasons
    assert sorted((fan.node, fan.direction) for fan in certificate.fans) == [
        (node, direction) for node in range(4) for direction in ("in", "out")
    ]
    for fan in certificate.fans:
        assert fan.peers == tuple(peer for peer in range(4) if peer != fan.node)
    for edge in certificate.edges:
        assert edge.delay_interval_ms is not None and edge.delay_interval_ms[0] <= (edge.delay_p50_ms or 0)
        assert (edge.duplicate_percent, edge.loss_percent) == (0, 0)
        # A sender that moves to another processor may overtake itself before any link.
        assert edge.reordered_percent is not None and edge.reordered_percent <= 100 * TOLERANCES.reorder_share

    # One node receives at 7 Mbit/s, another sends at 13: each shows in its own fan, and at no other node.
    apply(lab, engine, [replace(plans[0], down_bps=7 * 10**6), replace(plans[1], up_bps=13 * 10**6)])
    found = {(fan.node, fan.direction): fan for fan in measured(lab, plans, complete).fans}
    assert {place for place, fan in found.items() if not fan.ok} == {(0, "in"), (1, "out")}
    assert found[0, "in"].measured_rate_bps == pytest.approx(7e6, rel=0.06)
    assert found[1, "out"].measured_rate_bps == pytest.approx(13e6, rel=0.06)


def test_every_fate_of_packets_is_told_apart(lab: Lab, engine: str) -> None:
    """What each of two links does is judged by the plan of both, of none, and of the other."""
    paths = {
        1: PathPlan(delay_ms=40, jitter_ms=3, jitter_distribution="normal", bursts=BurstPlan(2, 20)),
        2: PathPlan(delay_ms=60, reorder_percent=10, duplicate_percent=8, loss_percent=5),
    }
    plans = []
    for rank in range(3):
        plan = node_plan(rank, 10**7, 10**7)
        incoming = {ADDRESSES[other]: PathPlan(delay_ms=5) for other in range(3) if other != rank}
        if rank in paths:
            incoming[ADDRESSES[0]] = paths[rank]
        plans.append(replace(plan, paths=incoming, segments=1))
    apply(lab, engine, plans)
    certificate = measured(lab, plans, [(0, 1), (0, 2)])
    assert certificate.trusted, certificate.reasons
    bursty, mixed = certificate.edges
    assert bursty.expected_burst_packets == pytest.approx(5)
    assert bursty.burst_packets is not None and bursty.burst_packets > 1.5
    assert bursty.delay_deviation_ms == pytest.approx(3, rel=0.5)
    assert mixed.reordered_percent == pytest.approx(10, abs=5) and mixed.duplicate_percent == pytest.approx(8, abs=4)

    swapped = [
        plans[0],
        replace(plans[1], paths={**plans[1].paths, ADDRESSES[0]: paths[2]}),
        replace(plans[2], paths={**plans[2].paths, ADDRESSES[0]: paths[1]}),
    ]
    said = [" ".join(edge.reasons) for edge in measured(lab, swapped, [(0, 1), (0, 2)]).edges]
    assert all(word in said[0] for word in ("one-way delay 4", "came twice", "overtook")), said
    assert all(word in said[1] for word in ("one-way delay 6", "came twice", "overtook")), said
