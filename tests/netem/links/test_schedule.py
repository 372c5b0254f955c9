"""Schedules: the states that entries lead to, against the definition worked out moment by moment."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links import replay, schedule
from gannet.netem.links.plan import path_plan
from gannet.netem.links.profile import LinkProfile, load_profile
from gannet.netem.links.schedule import Layer, Moment, ScheduleError, unrolled
from gannet.netem.links.state import Journal, LinkState, difference
from gannet.netem.links.trace import Trace, TracePoint

WORLD = 4
NAMES = ("lte", "2g", "3g-slow", "cable", "geo-satellite")
ranks = st.integers(0, WORLD - 1)
edges = st.tuples(ranks, ranks).filter(lambda edge: edge[0] != edge[1])
profiles = st.sampled_from([load_profile(name) for name in NAMES])
states = st.builds(
    LinkState,
    profile=profiles,
    nodes=st.dictionaries(ranks, profiles, max_size=2),
    edges=st.dictionaries(edges, profiles, max_size=2),
)
moments_s = st.integers(0, 40).map(lambda quarter: quarter / 4)
ends_s = st.just(inf) | st.integers(1, 80).map(lambda quarter: quarter / 4)
some_nodes = st.lists(ranks, min_size=1, max_size=3)
some_edges = st.lists(edges, min_size=1, max_size=3)
places = st.one_of(
    st.tuples(st.none(), st.none()), st.tuples(some_nodes, st.none()), st.tuples(st.none(), some_edges),
    st.tuples(some_nodes, some_edges),
)  # fmt: skip
TRACE = Trace(
    "drawn",
    "here",
    (TracePoint(0.0, 5_000_000, 1_000_000), TracePoint(0.5, 0, 0), TracePoint(1.25, 9_000_000, 2_000)),
    2.0,
)


def end(at_s: float, after_s: float) -> float:
    return at_s + after_s


layers: st.SearchStrategy[Layer] = st.one_of(
    st.builds(lambda t, p, at, d: schedule.applied(t, p, *at, end(t, d)), moments_s, profiles, places, ends_s),
    st.builds(
        lambda t, r, p, at, d: schedule.ramped(t, r, p, *at, end(t, d)),
        moments_s,
        st.sampled_from([0.25, 1, 3]),
        profiles,
        places,
        ends_s,
    ),
    st.builds(
        lambda t, d, u, n, e: schedule.flapping(t, d, u, n, e),
        moments_s,
        st.sampled_from([0.25, 1]),
        st.sampled_from([0.25, 2]),
        st.integers(1, 4),
        some_edges,
    ),
    st.builds(lambda t, g, d: schedule.partitioned(t, [[g]], WORLD, end(t, d)), moments_s, ranks, ends_s),
    st.builds(lambda t, n, d: schedule.isolated(t, n, WORLD, end(t, d)), moments_s, some_nodes, ends_s),
    st.builds(schedule.healed, moments_s),
    st.builds(
        lambda t, n, d: replay.replayed(t, TRACE, WORLD, n, end(t, d)), moments_s, st.none() | some_nodes, ends_s
    ),
    st.builds(
        lambda t, n, d: replay.replayed(t, replace(TRACE, loop=True), WORLD, n, end(t, d)),
        moments_s,
        some_nodes,
        st.integers(1, 20).map(float),
    ),
)
schedules = st.lists(layers, max_size=5)


def at(links: LinkState, moments: tuple[Moment, ...], t_s: float) -> LinkState:
    for moment in moments:
        if moment.at_s <= t_s:
            links = moment.links
    return links


def defined(base: LinkState, entries: list[Layer], t_s: float) -> LinkState:
    """The definition: entries in the order of their times, each a change of what those before it have made."""
    for entry in sorted(entries, key=lambda entry: entry.at_s):
        begun = [change for from_s, change in entry.steps if from_s <= t_s]
        if begun and t_s < entry.until_s:
            base = begun[-1](base)
    return base


@given(states, schedules, st.lists(st.integers(0, 200).map(lambda tenth: tenth / 10), max_size=5))
def test_at_every_moment_entries_are_composed_in_order(
    base: LinkState, entries: list[Layer], others_s: list[float]
) -> None:
    links, moments = unrolled(base, entries)
    times = [moment.at_s for moment in moments]
    assert times == sorted(set(times))
    steps = {t_s for entry in entries for t_s, _ in entry.steps}
    for t_s in {*steps, *(t + 0.01 for t in steps), *others_s, *(e.until_s for e in entries if e.until_s < inf)}:
        expected = defined(base, entries, t_s)
        assert at(links, moments, t_s).model_copy(update={"segments": None}) == expected
    before = links
    for moment in moments:  # nothing is ordered twice, and packets keep their size
        assert moment.links != before and moment.links.segments == links.segments
        before = moment.links


@given(states, schedules)
def test_when_all_that_ends_has_ended_only_what_stays_is_left(base: LinkState, entries: list[Layer]) -> None:
    links, moments = unrolled(base, entries)
    left = at(links, moments, 1e6).model_copy(update={"segments": None})
    assert left == defined(base, [entry for entry in entries if entry.until_s == inf], 1e6)


@given(states, schedules)
def test_a_journal_of_live_changes_comes_to_the_same(base: LinkState, entries: list[Layer]) -> None:
    """Made live, each at its time, with the journal told of the time whenever it wants to be."""
    journal = Journal(base)
    links, moments = unrolled(base, entries)
    pending = sorted(entries, key=lambda entry: entry.at_s)
    for t_s in sorted(
        {t for entry in entries for t, _ in entry.steps} | {e.until_s for e in entries if e.until_s < inf}
    ):
        journal.end_by(t_s)
        while pending and pending[0].at_s <= t_s:
            entry = pending.pop(0)
            journal.add(entry.steps[0][1], entry.until_s, entry.steps[1:])
        assert journal.next_end_s() > t_s
        assert journal.state == at(links, moments, t_s).model_copy(update={"segments": None})


@given(states, states)
def test_a_difference_makes_the_one_of_the_other(before: LinkState, after: LinkState) -> None:
    assert difference(before, after)(before) == after


@given(states, schedules, ranks, edges, profiles)
def test_what_a_schedule_does_not_touch_stays_as_it_was_made_by_hand(
    base: LinkState, entries: list[Layer], rank: int, edge: tuple[int, int], by_hand: LinkProfile
) -> None:
    """Differences applied over a change by hand: at a node and a link that no entry touches, it stays."""
    links, moments = unrolled(base, entries)
    state = links.apply(by_hand, [rank], [edge]).sever([edge])
    before = links
    touched = {"profile": False, "node": False, "edge": False, "cut": False}
    for moment in moments:
        now = moment.links
        touched["profile"] |= before.profile != now.profile
        touched["node"] |= before.nodes.get(rank) != now.nodes.get(rank)
        touched["edge"] |= before.edges.get(edge) != now.edges.get(edge)
        touched["cut"] |= (edge in before.cut) != (edge in now.cut)
        state, before = difference(before, now)(state), now
    if not touched["profile"]:
        assert touched["node"] or state.nodes[rank] == by_hand
        assert touched["edge"] or state.edges[edge] == by_hand
    assert touched["cut"] or edge in state.cut
    if moments and touched["profile"]:
        assert state.profile == moments[-1].links.profile


def test_a_flap_over_a_ramp() -> None:
    """The ramp goes on below; the flap cuts and lets go, and undoes nothing but itself."""
    fast, slow = LinkProfile(name="fast", up_bps=10_000_000), LinkProfile(name="slow", up_bps=2_000_000)
    base = LinkState(profile=fast)
    ramp = schedule.ramped(10, 8, slow, [2])
    flap = schedule.flapping(12, 1, 2, 2, [(2, 0)])
    links, moments = unrolled(base, [ramp, flap])
    for t_s in (11.99, 12.0, 12.99, 13.0, 14.99, 15.0, 15.99, 16.0, 18.0, 99.0):
        state = at(links, moments, t_s)
        down = 12 <= t_s < 13 or 15 <= t_s < 16
        assert state.cut == ({(2, 0)} if down else frozenset())
        passed = min(8.0, t_s - 10)
        # Steps of a quarter of a second, each with the ramp's value in its middle.
        expected = 10e6 - 1e6 * ((passed // 0.25 + 0.5) * 0.25) if passed < 8 else 2e6
        assert state.nodes[2].up_bps == pytest.approx(expected)
        assert state.profile_of(1) == fast
    assert at(links, moments, 18.0).nodes[2] == slow
    names = {moment.at_s: moment.series for moment in moments}
    assert names[10] == names[18] == "ramp to slow at node 2" and names[12] == names[13] == ""


def test_a_later_profile_hides_a_trace_until_it_ends() -> None:
    base, lte = LinkState(), load_profile("lte")
    entries = [schedule.applied(0.25, lte, [1], None, 1.0), replay.replayed(0, TRACE, WORLD, [1, 2])]
    links, moments = unrolled(base, entries)
    assert [(m.at_s, m.links.profile_of(1).name, m.links.profile_of(2).up_bps, m.series) for m in moments] == [
        (0.0, "drawn", 1_000_000, "trace drawn at node 1, node 2"),
        (0.25, "lte", 1_000_000, ""),
        (0.5, "lte", 1_000_000, "trace drawn at node 1, node 2"),
        (1.0, "drawn", 1_000_000, ""),
        (1.25, "drawn", 2_000, "trace drawn at node 1, node 2"),
        (2.0, "unshaped", None, "trace drawn at node 1, node 2"),
    ]
    assert at(links, moments, 2.0) == links


def test_heal_ends_cuts_below_it_and_none_above() -> None:
    entries = [
        schedule.isolated(1, [0], WORLD, 9.0),
        schedule.healed(3),
        schedule.flapping(4, 1, 1, 1, [(0, 1)]),
        schedule.partitioned(6, [[0, 1]], WORLD),
    ]
    _, moments = unrolled(LinkState(), entries)
    lonely = {edge for other in (1, 2, 3) for edge in ((0, other), (other, 0))}
    parted = {edge for a in (0, 1) for b in (2, 3) for edge in ((a, b), (b, a))}
    assert [(m.at_s, m.links.cut) for m in moments] == [
        (1, lonely), (3, frozenset()), (4, {(0, 1)}), (5, frozenset()), (6, parted),
    ]  # fmt: skip


def test_a_trace_leaves_what_it_says_nothing_of() -> None:
    far = LinkProfile(name="far", up_delay_ms=90, down_delay_ms=90)
    home = load_profile("home")
    base = LinkState(profile=home, edges={(0, 1): far})
    _, moments = unrolled(base, [replay.replayed(5, TRACE, WORLD, [1])])
    traced = moments[0].links.nodes[1]
    assert traced == home.model_copy(update={"name": "drawn", "down_bps": 5_000_000, "up_bps": 1_000_000})
    assert moments[0].links.edges == {(0, 1): far}


def test_an_outage_cuts_what_it_says_and_keeps_the_rates_before_it() -> None:
    points = ((0.0, 0, 4_000), (1.0, 5_000, 0), (2.0, 0, 0), (3.0, 7_000, 8_000))
    trace = Trace("out", "", tuple(TracePoint(*point) for point in points), 4.0)
    base = LinkState(profile=LinkProfile(down_bps=1_000, up_bps=2_000)).sever([(2, 3)])
    _, moments = unrolled(base, [replay.replayed(10, trace, WORLD, [0, 1])])
    ups = {(a, b) for a in (0, 1) for b in range(WORLD) if a != b}
    downs = {(b, a) for a, b in ups}
    found = [(m.links.cut - {(2, 3)}, m.links.nodes[1].down_bps, m.links.nodes[1].up_bps) for m in moments[:4]]
    assert found == [(downs, 1_000, 4_000), (ups, 5_000, 4_000), (ups | downs, 5_000, 4_000), (set(), 7_000, 8_000)]
    assert moments[4].links == base.model_copy(update={"segments": 1})
    assert all((2, 3) in moment.links.cut for moment in moments)


def test_packets_are_as_small_as_the_slowest_state_needs() -> None:
    fast = LinkProfile(name="fast", up_bps=10**9, down_bps=10**9)
    links, _ = unrolled(LinkState(profile=fast), [replay.replayed(0, TRACE, WORLD, [1])])
    assert links.segments == 1  # 2 kbit/s
    steady = Trace("steady", "", (TracePoint(0.0, 0, 0), TracePoint(1.0, 200_000_000, 200_000_000)), 2.0)
    links, moments = unrolled(LinkState(profile=fast), [replay.replayed(0, steady, WORLD, [1])])
    addresses = [f"10.0.0.{rank + 1}" for rank in range(WORLD)]
    every = [links, *(moment.links for moment in moments)]
    found = {plan.segments for state in every for plan in state.plans(addresses, ["mesh0"] * WORLD, 1)}
    assert found == {int(200e6 * 0.0005 / (8 * 1514))} == {8}
    assert (
        LinkState(profile=load_profile("3g-lossy"), segments=8).plans(addresses, ["mesh0"] * WORLD, 1)[0].segments
        == 1
    )


def test_a_ramp_of_an_edge_begins_at_what_the_access_links_make_of_it() -> None:
    base = LinkState(profile=load_profile("lte"), nodes={1: load_profile("3g-lossy")})
    path = path_plan(base.profile_of(0), base.profile_of(1))
    target = LinkProfile(name="bad", up_delay_ms=300, down_delay_ms=300, loss_percent=8)
    _, moments = unrolled(base, [schedule.ramped(0, 1, target, None, [(0, 1)])])
    shares = [0.125, 0.375, 0.625, 0.875, 1.0]
    for moment, share in zip(moments, shares, strict=True):
        edge = moment.links.edges[0, 1]
        assert edge.delay_ms == pytest.approx(path.delay_ms + share * (300 - path.delay_ms))
        assert edge.loss_percent == pytest.approx(path.loss_percent + share * (8 - path.loss_percent))
        assert edge.jitter_ms == pytest.approx(path.jitter_ms * (1 - share))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: schedule.ramped(0, 1, load_profile("lte"), [0], where="entry 3"),
            "entry 3: down_bps: lte has a cap and unshaped has none",
        ),
        (
            lambda: replay.replayed(0, replace(TRACE, loop=True), WORLD, where="entry 3"),
            "entry 3: a trace that loops needs an end",
        ),
        (
            lambda: replay.replayed(0, replace(TRACE, loop=True), WORLD, None, 1e9, "entry 3"),
            "entry 3: over 200000 changes",
        ),
        (lambda: schedule.flapping(0, 1, 1, 10**6, [(0, 1)], "entry 3"), "entry 3: 1000000 times"),
        (lambda: schedule.partitioned(0, [[0, 1, 2, 3]], WORLD), "all nodes on one side"),
        (lambda: schedule.isolated(0, [7], WORLD), "node 7 does not exist: the nodes are 0 to 3"),
    ],
)
def test_what_cannot_be_is_said(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        unrolled(LinkState(), [make()])
    assert isinstance(error.value, ScheduleError) or "entry" not in said


SHORT = Trace("short", "here", (TracePoint(0.0, delay_ms=40), TracePoint(0.5, delay_ms=5)), 1.0)


def test_a_trace_too_short_for_a_jitter_is_refused_before_it_begins() -> None:
    """In a schedule and by hand; a state that only comes about later must not fail, and has the jitter that fits."""
    jittered = LinkState(profile=LinkProfile.model_validate({"delay_ms": 50, "jitter_ms": 20}))
    with pytest.raises(ScheduleError, match=r"here: short at 0.5 s: jitter_ms: .* does not fit a delay of 5 ms"):
        unrolled(jittered, [replay.replayed(1.0, SHORT, WORLD, until_s=2.0, where="here")])
    steps, trial = replay.replay_now(SHORT, WORLD, None, 10.0)
    with pytest.raises(ValueError, match="does not fit a delay of 5 ms"):
        trial(jittered)
    assert trial(LinkState()) == steps[0][1](LinkState())
    assert [change(jittered).profile.jitter_ms for _, change in steps[:2]] == [20, 5]
    journal = Journal(jittered)
    journal.add(lambda state: state.apply(LinkProfile()), 3.0)
    journal.add(steps[0][1], 10.0, steps[1:])
    assert journal.end_by(3.6) and journal.state.profile.jitter_ms == 5


def test_a_ramp_between_jitters_keeps_their_kind() -> None:
    jittered = {"rate": "1Mbit", "delay_ms": 80, "jitter_ms": 20, "jitter_distribution": "normal"}
    reordered = LinkProfile.model_validate({**jittered, "jitter_order": "reorder", "jitter_correlation_percent": 30})
    calm = LinkProfile.model_validate({"rate": "1Mbit", "delay_ms": 40})
    for begin, end_ in ((reordered, calm), (calm, reordered)):
        layer = schedule.ramped(1.0, 1.0, end_)
        _, moments = unrolled(LinkState(profile=begin), [layer])
        for moment in moments[:-1]:
            between = moment.links.profile
            assert (between.jitter_distribution, between.jitter_order) == ("normal", "reorder")
            assert 0 < between.jitter_ms < 20 and 0 < between.jitter_correlation_percent < 30
    _, moments = unrolled(
        LinkState(profile=reordered), [schedule.ramped(1.0, 1.0, LinkProfile.model_validate(jittered))]
    )
    assert {moment.links.profile.jitter_order for moment in moments} == {"keep"}
