"""Which probes run at once: nothing is in another's way, nothing is left out, and a big network takes no longer."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links.plan import FRAME_BYTES, InterfacePlan, PathPlan, network_plan
from gannet.netem.links.profile import LinkProfile, list_profiles, load_profile
from gannet.netem.measure.probe_plan import (
    calm_parts,
    echo_count,
    echo_interval_s,
    fan_groups,
    fans,
    is_gentle,
    schedule_rounds,
    train_pace_bps,
    train_seconds,
)

RING = [(i, (i + step) % 8) for i in range(8) for step in (1, 7)]
EXPONENTIAL = [(i, (i + step) % 16) for i in range(16) for step in (1, 2, 4, 8)]
COMPLETE = list(permutations(range(6), 2))
rates = st.sampled_from([None, 32_000, 10**6, 5 * 10**6, 10**7, 2 * 10**7])
edge_sets = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda edge: edge[0] != edge[1]))


def plans(*ends: tuple[int | None, int | None], **profile: object) -> list[InterfacePlan]:
    """Of nodes with these (down, up) rates."""
    nodes = {n: LinkProfile(down_bps=down, up_bps=up, **profile) for n, (down, up) in enumerate(ends)}
    return network_plan(LinkProfile(), nodes, {}, [f"10.0.0.{n + 1}" for n in range(len(ends))], "mesh0")


@pytest.mark.parametrize(("edges", "rounds"), [(RING, 2), (EXPONENTIAL, 4), (COMPLETE, 5), ([], 0)])
def test_regular_graphs_take_as_many_rounds_as_neighbours(edges: list[tuple[int, int]], rounds: int) -> None:
    assert len(schedule_rounds(edges)) == rounds


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] != edge[1])))
def test_rounds_cover_all_edges_once_without_contention(edges: set[tuple[int, int]]) -> None:
    rounds = schedule_rounds(sorted(edges))
    assert sorted(edge for batch in rounds for edge in batch) == sorted(edges)
    for batch in rounds:
        assert len({source for source, _ in batch}) == len({target for _, target in batch}) == len(batch)


@given(st.lists(st.tuples(rates, rates), min_size=6, max_size=6), edge_sets)
def test_a_round_is_split_where_it_would_be_too_much(
    ends: list[tuple[int | None, int | None]], edges: set[tuple[int, int]]
) -> None:
    network = plans(*ends)
    for batch in schedule_rounds(sorted(edges)):
        parts = calm_parts(batch, network)
        assert [edge for part in parts for edge in part] == batch and all(parts)
    assert len(calm_parts([(n, n + 1) for n in range(5)], plans(*[(5 * 10**8, 5 * 10**8)] * 6))) == 5


@given(st.lists(st.tuples(rates, rates), min_size=6, max_size=6), edge_sets)
def test_all_at_once_meets_no_limit_but_the_one_it_tests(
    ends: list[tuple[int | None, int | None]], edges: set[tuple[int, int]]
) -> None:
    network = plans(*ends)
    wanted = fans(network, sorted(edges))
    groups = fan_groups(network, wanted)
    assert sorted((f.node, f.direction) for g in groups for f in g) == sorted((f.node, f.direction) for f in wanted)
    for fan in wanted:
        near = network[fan.node].down_bps if fan.direction == "in" else network[fan.node].up_bps
        far = [(network[p].up_bps if fan.direction == "in" else network[p].down_bps) or 1e12 for p in fan.peers]
        assert len(fan.peers) > 1 and set(fan.edges) <= edges
        assert fan.rate_bps == min(near or 1e12, sum(far))
        # What the peers can pass on of what they are offered is enough to fill what is tested.
        assert sum(min(pace, limit) for pace, limit in zip(fan.paces_bps, far, strict=True)) >= fan.rate_bps - 1
    for group in groups:
        assert len({fan.direction for fan in group}) == 1
        if len(group) > 1:
            for peer in range(6):
                limit = (network[peer].up_bps if group[0].direction == "in" else network[peer].down_bps) or 1e12
                of_peer = [f.paces_bps[f.peers.index(peer)] for f in group if peer in f.peers]
                assert len(of_peer) < 2 or sum(of_peer) <= limit


def test_sixteen_nodes_fit_the_time() -> None:
    """What all probes send, at 10 Mbit/s, leaves room for what they wait: bench/certificate.py measures it all."""
    network = network_plan(load_profile("demo-10mbit"), {}, {}, [f"10.0.0.{n + 1}" for n in range(16)], "mesh0")
    edges = list(permutations(range(16), 2))
    interval_s = echo_interval_s(network, edges)
    assert echo_count(interval_s) * interval_s < 4
    rounds = [part for batch in schedule_rounds(edges) for part in calm_parts(batch, network)]
    assert len(rounds) * (train_seconds(len(rounds), PathPlan()) + 0.05) < 7
    assert len(fan_groups(network, fans(network, edges))) <= 8


@pytest.mark.parametrize("profile", list_profiles())
def test_echoes_leave_every_interface_room(profile: str) -> None:
    network = network_plan(load_profile(profile), {}, {}, [f"10.0.0.{n + 1}" for n in range(6)], "mesh0")
    interval_s = echo_interval_s(network, COMPLETE)
    slowest_bps = min((r for plan in network for r in (plan.up_bps, plan.down_bps) if r), default=10**12)
    assert 2 * 5 * 8 * 70 / interval_s <= 0.41 * slowest_bps


def test_a_gentle_train_overflows_nothing_and_where_it_would_it_is_none() -> None:
    edge = (0, 1)
    roomy = plans((10**7, 10**7), (10**7, 10**7))
    packets = 800
    assert is_gentle(roomy, edge)
    pace = train_pace_bps(roomy, edge, packets)
    seconds = packets * 8 * FRAME_BYTES / pace
    assert 0 < (pace - 10**7) * seconds / 8 <= roomy[0].buffer_bytes_up / 2
    tight = [replace(plan, buffer_bytes_up=2 * FRAME_BYTES) for plan in roomy]
    managed = [replace(plan, queue="codel") for plan in roomy]
    for network in (tight, managed):
        assert not is_gentle(network, edge) and train_pace_bps(network, edge, packets) == pytest.approx(1.3e7)
