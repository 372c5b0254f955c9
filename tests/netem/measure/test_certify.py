"""Certificates of real links: what is ordered and in force is trusted, what is not in force shows where it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from gannet.netem.links.plan import BurstPlan, InterfacePlan, PathPlan
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import measure_links
from gannet.netem.measure.tolerances import TOLERANCES
from tests.netem.link_lab import ADDRESSES, Lab, node_plan
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")


def apply(lab: Lab, engine: str, plans: Sequence[InterfacePlan]) -> None:
    for agent, plan in zip(lab.agents, plans, strict=False):
        agent.request("apply", engine=engine, plan=plan.to_json())


def measured(lab: Lab, plans: Sequence[InterfacePlan], edges: Sequence[tuple[int, int]]) -> Certificate:
    return measure_links(dict(enumerate(lab.agents)), plans, edges)


def trusted(lab: Lab, plans: Sequence[InterfacePlan], edges: Sequence[tuple[int, int]]) -> Certificate:
    """A certificate of links as planned: of a machine that stands still in both looks at a link, there is another."""
    certificate = seen_right(lambda: measured(lab, plans, edges), lambda found: found.trusted)
    assert certificate.trusted, certificate.reasons
    return certificate


def test_all_peers_at_once_find_the_downlink_and_the_uplink_that_are_too_slow(lab: Lab, engine: str) -> None:
    plans = [node_plan(rank, 10**7, 10**7, delay_ms=5) for rank in range(4)]
    complete = list(permutations(range(4), 2))
    apply(lab, engine, plans)
    certificate = trusted(lab, plans, complete)
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
    wrong = {(0, "in"): pytest.approx(7e6, rel=0.06), (1, "out"): pytest.approx(13e6, rel=0.06)}

    def amiss() -> dict[tuple[int, str], float | None]:
        fans = measured(lab, plans, complete).fans
        return {(fan.node, fan.direction): fan.measured_rate_bps for fan in fans if not fan.ok}

    assert seen_right(amiss, lambda found: found == wrong) == wrong


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
    bursty, mixed = trusted(lab, plans, [(0, 1), (0, 2)]).edges
    assert bursty.expected_burst_packets == pytest.approx(5)
    assert bursty.burst_packets is not None and bursty.burst_packets > 1.5
    assert bursty.delay_deviation_ms is not None and bursty.delay_deviation_ms > 1.5  # echoes held up add to it
    assert mixed.reordered_percent == pytest.approx(10, abs=5) and mixed.duplicate_percent == pytest.approx(8, abs=4)

    swapped = [
        plans[0],
        replace(plans[1], paths={**plans[1].paths, ADDRESSES[0]: paths[2]}),
        replace(plans[2], paths={**plans[2].paths, ADDRESSES[0]: paths[1]}),
    ]
    words = [("one-way delay 4", "came twice", "overtook"), ("one-way delay 6", "came twice", "overtook")]

    def said() -> list[str]:
        return [" ".join(edge.reasons) for edge in measured(lab, swapped, [(0, 1), (0, 2)]).edges]

    def all_said(found: list[str]) -> bool:
        return all(word in text for text, wanted in zip(found, words, strict=True) for word in wanted)

    found = seen_right(said, all_said)
    assert all_said(found), found


def test_links_that_are_only_sampled_are_found_out_too(lab: Lab, engine: str) -> None:
    """By a few echoes: what carries nothing, and what is too late."""
    plans = [node_plan(rank, 10**7, 10**7, delay_ms=10) for rank in range(4)]
    pairs = list(permutations(range(4), 2))
    apply(lab, engine, plans)

    def sampled() -> Certificate:
        return measure_links(dict(enumerate(lab.agents)), plans, [(0, 1)], pairs)

    certificate = seen_right(sampled, lambda found: found.trusted)
    assert certificate.trusted, certificate.reasons
    assert {(edge.src, edge.dst) for edge in certificate.edges} == set(pairs)
    assert [edge.measured_rate_bps is None for edge in certificate.edges] == [False] + 11 * [True]
    wrong = dict(plans[3].paths) | {ADDRESSES[1]: PathPlan(delay_ms=25), ADDRESSES[2]: PathPlan(loss_percent=100)}
    apply(lab, engine, [*plans[:3], replace(plans[3], paths=wrong)])

    def condemned(found: Certificate) -> dict[tuple[int, int], str]:
        return {(edge.src, edge.dst): edge.reasons[0] for edge in found.edges if not edge.ok}

    def as_expected(found: Certificate) -> bool:
        return condemned(found).keys() == {(1, 3), (2, 3), (3, 2)}

    found = condemned(seen_right(sampled, as_expected))
    assert "least one-way delay 25" in found[1, 3] and "none of" in found[2, 3] and "none of" in found[3, 2]


def test_delay_that_load_adds_fails(lab: Lab, engine: str) -> None:
    """Jitter is right at the rate of a ping and of a train; a queue that half of the planned rate fills is not."""
    plans = [
        node_plan(rank, 10**7, 10**7, delay_ms=60, jitter_ms=10, jitter_distribution="normal") for rank in (0, 1)
    ]
    apply(lab, engine, plans)
    edge = trusted(lab, plans, [(0, 1)]).edges[0]
    assert edge.loaded_delay_p50_ms is not None and abs(edge.loaded_delay_p50_ms - 60) < 10
    apply(lab, engine, [plans[0], replace(plans[1], down_bps=4 * 10**6)])

    def said() -> str:
        return " ".join(measured(lab, plans, [(0, 1)]).edges[0].reasons)

    assert "ms under load, not 60 ms" in seen_right(said, lambda text: "under load" in text)
