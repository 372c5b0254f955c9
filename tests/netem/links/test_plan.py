"""From profiles to plans: the rules, as properties over all profiles."""

from __future__ import annotations

import json
from math import prod, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links.plan import (
    FRAME_BYTES,
    BurstPlan,
    InterfacePlan,
    PathPlan,
    buffer_bytes,
    network_plan,
    packet_segments,
    path_plan,
    path_rate_bps,
    profile_buffer_bytes,
)
from gannet.netem.links.profile import GilbertElliott, LinkProfile

ADDRESSES = [f"10.77.1.{10 + rank}" for rank in range(4)]

rates = st.none() | st.integers(1_000, 10**10)
percents = st.just(0.0) | st.floats(0, 100)
chains = st.builds(
    GilbertElliott,
    good_to_bad_percent=st.floats(0.001, 100),
    bad_to_good_percent=st.floats(0.001, 100),
    loss_in_bad_percent=st.just(100.0) | st.floats(0, 100),
    loss_in_good_percent=percents,
)


@st.composite
def link_profiles(draw: st.DrawFn) -> LinkProfile:
    """Any profile that a file may hold: what excludes each other is drawn as one choice."""
    lost = draw(
        st.fixed_dictionaries({"loss_percent": percents}) | st.fixed_dictionaries({"gilbert_elliott": chains})
    )
    jitter_ms = draw(st.just(0.0) | st.floats(1e-3, 100))
    least_ms = 300.0 if jitter_ms else 0.0  # holds any of these jitters, on any path between two such profiles
    delays = draw(st.tuples(st.floats(least_ms, 1000), st.floats(least_ms, 1000)))
    order = draw(st.sampled_from(["keep", "reorder"])) if jitter_ms else "keep"
    buffers = draw(
        st.fixed_dictionaries({"buffer_ms": st.none() | st.floats(1, 1000)})
        | st.fixed_dictionaries({"buffer_bytes": st.integers(1514, 10**7)})
        | st.fixed_dictionaries({"buffer_packets": st.integers(1, 10_000)})
    )
    return LinkProfile(
        down_bps=draw(rates),
        up_bps=draw(rates),
        down_delay_ms=delays[0],
        up_delay_ms=delays[1],
        jitter_ms=jitter_ms,
        jitter_distribution=draw(st.sampled_from(["uniform", "normal", "pareto"])),
        jitter_order=order,
        jitter_correlation_percent=draw(st.floats(0, 99)) if order == "reorder" else 0.0,
        reorder_percent=draw(percents) if any(delays) else 0.0,
        duplicate_percent=draw(percents),
        corrupt_percent=draw(percents),
        queue=draw(st.sampled_from(["fifo", "codel", "fq_codel", "sfq"])),
        down_queue=draw(st.sampled_from(["per-source", "shared"])),
        **lost,
        **buffers,
    )


profiles = link_profiles()
networks = st.lists(profiles, min_size=4, max_size=4)


@given(profiles)
def test_one_profile_for_all_gives_every_link_its_figures(profile: LinkProfile) -> None:
    plans = network_plan(profile, {}, {}, ADDRESSES, "mesh0")
    for rank, plan in enumerate(plans):
        assert (plan.up_bps, plan.down_bps) == (profile.up_bps, profile.down_bps)
        assert set(plan.paths) == set(ADDRESSES) - {ADDRESSES[rank]}
        for path in plan.paths.values():
            assert path.delay_ms == profile.delay_ms
            assert same_jitter(path, profile)
            assert path.reorder_percent == pytest.approx(profile.reorder_percent if profile.delay_ms else 0, abs=1e-6)
            assert path.duplicate_percent == pytest.approx(profile.duplicate_percent, abs=1e-6)
            assert path.corrupt_percent == pytest.approx(profile.corrupt_percent, abs=1e-6)
            assert path.any_loss_percent == pytest.approx(profile.mean_loss_percent, abs=1e-6)
            if profile.gilbert_elliott is not None and 1e-6 < profile.mean_loss_percent < 100 - 1e-6:
                assert path.bursts == BurstPlan(**profile.gilbert_elliott.model_dump())
        assert (plan.queue, plan.down_queue) == (profile.queue, profile.down_queue)
        assert plan.buffer_packets_up == plan.buffer_packets_down == profile.buffer_packets
        if profile.buffer_bytes is not None:
            assert plan.buffer_bytes_up == plan.buffer_bytes_down == profile.buffer_bytes


def same_jitter(path: PathPlan, profile: LinkProfile) -> bool:
    kinds = ("jitter_ms", "jitter_distribution", "jitter_correlation_percent", "jitter_order")
    return all(getattr(path, kind) == getattr(profile, kind) for kind in kinds)


def kept(*percent: float) -> float:
    """What passes when each end lets the square root of its share pass."""
    return prod((1 - share / 100) ** 0.5 for share in percent)


@given(networks)
def test_two_ends_contribute_half_each(nodes: list[LinkProfile]) -> None:
    plans = network_plan(LinkProfile(), dict(enumerate(nodes)), {}, ADDRESSES, "mesh0")
    for i, sender in enumerate(nodes):
        for j, receiver in enumerate(nodes):
            if i == j:
                continue
            path = plans[j].paths[ADDRESSES[i]]
            assert path.delay_ms == pytest.approx(sender.up_delay_ms / 2 + receiver.down_delay_ms / 2)
            lost = 100 * (1 - kept(sender.mean_loss_percent, receiver.mean_loss_percent))
            assert path.any_loss_percent == pytest.approx(lost, abs=1e-6)
            for each in ("duplicate_percent", "corrupt_percent", "reorder_percent"):
                both = 100 * (1 - kept(getattr(sender, each), getattr(receiver, each)))
                skips = each != "reorder_percent" or path.delay_ms > 0
                assert getattr(path, each) == pytest.approx(both if skips else 0, abs=1e-6)
            assert path.jitter_ms == pytest.approx(sqrt((sender.jitter_ms**2 + receiver.jitter_ms**2) / 2), abs=1e-9)
            more = receiver if receiver.jitter_ms > sender.jitter_ms else sender
            assert (path.jitter_distribution, path.jitter_correlation_percent) == (
                more.jitter_distribution,
                more.jitter_correlation_percent,
            )
            known = [rate for rate in (sender.up_bps, receiver.down_bps) if rate is not None]
            assert path_rate_bps(plans, i, j) == min(known, default=None)


@given(networks, profiles)
def test_an_edge_profile_replaces_its_link_and_no_other(nodes: list[LinkProfile], edge: LinkProfile) -> None:
    without = network_plan(LinkProfile(), dict(enumerate(nodes)), {}, ADDRESSES, "mesh0")
    with_edge = network_plan(LinkProfile(), dict(enumerate(nodes)), {(0, 2): edge}, ADDRESSES, "mesh0")
    path = with_edge[2].paths[ADDRESSES[0]]
    assert path.delay_ms == edge.delay_ms
    assert same_jitter(path, edge)
    assert path.any_loss_percent == pytest.approx(edge.mean_loss_percent, abs=1e-6)
    for rank in range(4):
        assert (without[rank].up_bps, without[rank].down_bps) == (
            with_edge[rank].up_bps,
            with_edge[rank].down_bps,
        )
        for source, other in without[rank].paths.items():
            if (source, rank) != (ADDRESSES[0], 2):
                assert with_edge[rank].paths[source] == other


@given(profiles, profiles)
def test_what_is_lost_is_lost_at_random_or_in_bursts_and_never_more_than_all(a: LinkProfile, b: LinkProfile) -> None:
    path = path_plan(a, b)
    for share in (path.loss_percent, path.reorder_percent, path.duplicate_percent, path.corrupt_percent):
        assert 0 <= share <= 100
    lost = path.any_loss_percent
    ends = sorted((a.mean_loss_percent, b.mean_loss_percent))
    assert ends[0] - 1e-6 <= lost <= ends[1] + 1e-6
    assert lost < 100 or path.loss_percent == 100  # what carries nothing is a cut
    if path.bursts is None:
        return
    assert path.loss_percent == 0
    worse = b if b.mean_loss_percent > a.mean_loss_percent else a
    chain = worse.gilbert_elliott
    assert chain is not None
    # The stays in the two states are those of the end that loses more; only the loss within them is less.
    assert path.bursts.good_to_bad_percent == chain.good_to_bad_percent
    assert path.bursts.bad_to_good_percent == chain.bad_to_good_percent
    assert 0 <= path.bursts.loss_in_bad_percent <= chain.loss_in_bad_percent
    assert 0 <= path.bursts.loss_in_good_percent <= chain.loss_in_good_percent


@given(chains)
def test_a_chain_loses_what_its_stationary_states_lose(chain: GilbertElliott) -> None:
    """The long run by linear algebra: the left eigenvector of the transition matrix for the eigenvalue 1."""
    p, r = chain.good_to_bad_percent / 100, chain.bad_to_good_percent / 100
    transitions = np.array([[1 - p, p], [r, 1 - r]])
    stationary = np.linalg.lstsq(
        np.vstack([transitions.T - np.eye(2), np.ones(2)]), np.array([0.0, 0.0, 1.0]), rcond=None
    )[0]
    lost = stationary @ [chain.loss_in_good_percent, chain.loss_in_bad_percent]
    assert chain.loss_percent == pytest.approx(lost, abs=1e-6)
    assert BurstPlan(**chain.model_dump()).loss_percent == chain.loss_percent
    assert chain.bad_packets == pytest.approx(1 / r)


def test_a_lossy_end_and_a_bursty_one_meet_as_the_formula_says() -> None:
    bursty = LinkProfile(gilbert_elliott=GilbertElliott(good_to_bad_percent=1, bad_to_good_percent=24))  # loses 4%
    path = path_plan(bursty, LinkProfile(loss_percent=1))
    assert path.loss_percent == 0 and path.bursts is not None
    assert path.bursts.loss_percent == pytest.approx(100 * (1 - sqrt(0.96 * 0.99)))
    assert path.bursts.loss_in_bad_percent == pytest.approx(100 * (1 - sqrt(0.96 * 0.99)) / 0.04)
    assert path_plan(LinkProfile(), bursty).any_loss_percent == pytest.approx(100 * (1 - sqrt(0.96)))
    random = path_plan(bursty, LinkProfile(loss_percent=9))
    assert random.bursts is None
    assert random.loss_percent == pytest.approx(100 * (1 - sqrt(0.96 * 0.91)))
    cut = path_plan(bursty, LinkProfile(loss_percent=100))
    assert (cut.loss_percent, cut.bursts) == (100, None)
    hopeless = GilbertElliott(good_to_bad_percent=3, bad_to_good_percent=7, loss_in_good_percent=100)
    assert path_plan(*[LinkProfile(gilbert_elliott=hopeless)] * 2).loss_percent == 100


def test_a_path_without_delay_reorders_nothing() -> None:
    """Netem refuses it, and nothing can skip what is not there."""
    up, down = (LinkProfile(reorder_percent=5, **{f"{way}_delay_ms": 10.0}) for way in ("up", "down"))
    assert path_plan(down, up) == PathPlan()
    assert path_plan(up, down).reorder_percent == pytest.approx(5)


@given(networks)
def test_plans_survive_json(nodes: list[LinkProfile]) -> None:
    for plan in network_plan(LinkProfile(), dict(enumerate(nodes)), {}, ADDRESSES, "mesh0", seed=3):
        assert InterfacePlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(st.lists(rates, min_size=1), st.booleans())
def test_a_packet_takes_at_most_half_a_millisecond(rates_bps: list[int | None], lossy: bool) -> None:
    segments = packet_segments(rates_bps, lossy)
    known = [rate for rate in rates_bps if rate is not None]
    assert 1 <= segments <= 40
    assert not lossy or segments == 1
    if segments > 1 and known:
        assert segments * FRAME_BYTES * 8 / min(known) <= 0.0005


def test_buffers_hold_their_time_and_at_least_an_initial_window() -> None:
    assert buffer_bytes(10_000_000, 100) == 125_000
    assert buffer_bytes(32_000, 100) == 10 * FRAME_BYTES
    assert buffer_bytes(None, 100) == 10 * FRAME_BYTES
    for said, expected in (
        ({}, 125_000),
        ({"buffer_ms": 20.0}, 25_000),
        ({"buffer_bytes": 5000}, 5000),
        ({"buffer_packets": 3}, 3 * FRAME_BYTES),
    ):
        assert profile_buffer_bytes(LinkProfile(**said), 10_000_000) == expected


def test_packets_of_several_segments_are_for_links_that_treat_all_alike() -> None:
    fast = LinkProfile(rate="1Gbit", delay_ms=5)
    for odd in ("loss_percent", "reorder_percent", "duplicate_percent", "corrupt_percent"):
        edge = fast.model_copy(update={odd: 1.0})
        assert {plan.segments for plan in network_plan(fast, {}, {(0, 1): edge}, ADDRESSES, "mesh0")} == {1}
    assert {plan.segments for plan in network_plan(fast, {}, {}, ADDRESSES, "mesh0")} == {40}


def test_links_between_nodes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="node 4, but the nodes are 0 to 3"):
        network_plan(LinkProfile(), {4: LinkProfile()}, {}, ADDRESSES, "mesh0")
    with pytest.raises(ValueError, match="node -1"):
        network_plan(LinkProfile(), {}, {(0, -1): LinkProfile()}, ADDRESSES, "mesh0")
    with pytest.raises(ValueError, match="node 1 to itself"):
        network_plan(LinkProfile(), {}, {(1, 1): LinkProfile()}, ADDRESSES, "mesh0")


def test_a_plan_knows_what_cannot_be_an_interface() -> None:
    with pytest.raises(ValueError, match="1 to 15 bytes"):
        InterfacePlan("a-name-too-long-for-linux", ADDRESSES[0], None, None, 0, 0)
    with pytest.raises(ValueError, match="Expected 4 octets"):
        InterfacePlan("mesh0", ADDRESSES[0], None, None, 0, 0, {"10.0.0": PathPlan()})
