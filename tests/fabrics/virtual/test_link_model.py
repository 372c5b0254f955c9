"""The virtual fabric's links, shared and changing: against arithmetic by hand, and worked out another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.fabrics.job import LinkChange, mesh_plans
from gannet.fabrics.tcp_model import frame_bytes
from gannet.fabrics.virtual.faults import Kill
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.replay import replayed
from gannet.netem.links.schedule import Layer, flapping, isolated, partitioned, unrolled
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace import Trace, TracePoint
from gannet.netem.links.trace_files import load_trace
from tests.support.games import BilinearGame, Wide
from tests.support.runs import Memory, play, virtual_job

WIRE_BITS = 8 * frame_bytes(2 * Wide.VALUES * 4, segments=1)


class Curve:
    """How much a rate that changes has carried by a moment, and the moment by which it has carried so much."""

    def __init__(self, segments: list[tuple[float, float]]) -> None:
        """`segments`: (from when, bit/s), the first from 0, the last for ever."""
        self.times, self.rates = [t for t, _ in segments], [rate for _, rate in segments]
        lengths = np.diff(self.times)
        self.totals = [0.0, *accumulate(rate * length for rate, length in zip(self.rates, lengths, strict=False))]

    def carried(self, t_s: float) -> float:
        place = int(np.searchsorted(self.times, t_s, side="right")) - 1
        return float(self.totals[place] + self.rates[place] * (t_s - self.times[place]))

    def moment(self, bits: float) -> float:
        place = max(0, int(np.searchsorted(self.totals, bits, side="left")) - 1)
        return float(self.times[place] + (bits - self.totals[place]) / self.rates[place])


def two_nodes(up: list[tuple[float, float]], down: list[tuple[float, float]], delay_ms: float) -> LinkModel[int]:
    """Node 0 sends with the rates of `up`, node 1 receives with those of `down`."""
    states = []
    for t_s in sorted({t for t, _ in up} | {t for t, _ in down}):
        up_bps, down_bps = ([rate for t, rate in way if t <= t_s][-1] for way in (up, down))
        figures = {"up_bps": up_bps, "down_bps": down_bps, "up_delay_ms": delay_ms, "down_delay_ms": delay_ms}
        states.append((t_s, mesh_plans(LinkState(profile=LinkProfile.model_validate(figures)), 2, 1)))
    return LinkModel(states[0][1], states[1:])


rates = st.sampled_from([1_000, 8_000, 30_000, 1_000_000])
ways = st.lists(st.tuples(st.integers(1, 30), rates), max_size=5).map(
    lambda made: [(t, rate) for t, rate in dict(sorted(made)).items()]
)


def arrivals(model: LinkModel[int], sends: Sequence[tuple[float, int, int, float]]) -> list[float]:
    """When the messages (when, source, to, bytes) arrive, in the order given; infinity for never."""
    arrived, now_s = [inf] * len(sends), 0.0
    coming = sorted(range(len(sends)), key=lambda number: sends[number][0])
    while True:
        next_s = model.next_s(now_s)
        if coming and sends[coming[0]][0] <= next_s:
            number = coming.pop(0)
            now_s, source, to, wire_bytes = sends[number]
            model.send(now_s, source, to, wire_bytes, number)
        elif next_s < inf:
            now_s = max(now_s, next_s)
            for arrives_s, number in model.advance(now_s):
                assert arrived[number] == inf and arrives_s >= now_s
                arrived[number] = arrives_s
        else:
            return arrived


def capped(ups: Sequence[int | None], downs: Sequence[int | None], delay_ms: float = 0.0) -> LinkModel[int]:
    """Nodes with these caps of their uplinks and downlinks, bit/s."""
    profiles = {
        rank: LinkProfile(name=f"n{rank}", up_bps=up, down_bps=down, up_delay_ms=delay_ms, down_delay_ms=delay_ms)
        for rank, (up, down) in enumerate(zip(ups, downs, strict=True))
    }
    return LinkModel(mesh_plans(LinkState(profile=profiles[0], nodes=profiles), len(profiles), 1))


@given(rates, ways, rates, ways, st.integers(1, 100_000), st.integers(0, 20), st.sampled_from([0, 40, 2500]))
def test_a_message_crosses_links_whose_rates_change(
    up: int, up_later: Any, down: int, down_later: Any, size: int, now_s: int, delay_ms: int
) -> None:
    """At any moment as fast as the slower of the two, and then a delay."""
    ups, downs = [(0.0, float(up)), *up_later], [(0.0, float(down)), *down_later]
    model = two_nodes(ups, downs, delay_ms)
    bends = sorted({t for t, _ in ups} | {t for t, _ in downs})
    slower = Curve([(t, min([r for at, r in way if at <= t][-1] for way in (ups, downs))) for t in bends])
    expected = slower.moment(slower.carried(now_s) + 8.0 * size) + delay_ms / 1000
    assert arrivals(model, [(now_s, 0, 1, size)]) == pytest.approx([expected], rel=1e-9, abs=1e-6)


KBYTE_S = 8_000  # bit/s


@pytest.mark.parametrize(
    ("ups", "downs", "sends", "arrived"),
    [
        # Two through one uplink end together.
        ([1, 1, 1], [9, 9, 9], [(0, 0, 1, 1000), (0, 0, 2, 1000)], [2, 2]),
        # Four to one: each has a quarter of its downlink.
        ([1, 1, 1, 1, 1], [1] * 5, [(0, source, 4, 1000) for source in range(4)], [4] * 4),
        # A small one beside a big one has its half, and the big one ends when all that there was is through.
        ([1, 1, 1], [9, 9, 9], [(0, 0, 1, 10_000), (5, 0, 2, 100)], [10.1, 5.2]),
        # One is held up at its end: the other has all that it leaves.
        ([10, 1, 1], [9, 2, 9], [(0, 0, 1, 4000), (0, 0, 2, 16_000)], [2, 2]),
        # From one node to another, messages follow each other, and together count once.
        ([1, 1, 1], [9, 9, 9], [(0, 0, 1, 1000), (0, 0, 1, 1000), (0, 0, 2, 1000)], [2, 3, 2]),
        # No cap on the way: at once.
        ([None, 1], [1, None], [(3, 0, 1, 10_000), (3, 1, 0, 1000)], [3, 4]),
    ],
)
def test_shares_by_hand(ups: Any, downs: Any, sends: Any, arrived: list[float]) -> None:
    scaled = [[None if k is None else k * KBYTE_S for k in caps] for caps in (ups, downs)]
    assert arrivals(capped(*scaled), sends) == pytest.approx(arrived)
    later = arrivals(capped(*scaled, delay_ms=250), sends)
    assert later == pytest.approx([at_s + 0.25 for at_s in arrived])


messages = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 1.25, 6.0]), st.integers(0, 3), st.integers(0, 3), st.integers(1, 5000)
    ),
    min_size=1,
    max_size=14,
).map(lambda made: [send for send in made if send[1] != send[2]])
caps_of_four = st.lists(st.sampled_from([1_000, 8_000, 30_000, None]), min_size=4, max_size=4)


@given(caps_of_four, caps_of_four, messages)
def test_no_link_carries_more_than_it_can_and_pairs_keep_their_order(ups: Any, downs: Any, sends: Any) -> None:
    """In any span, of what was sent in it at most capacity × span is there; and nothing is lost."""
    arrived = arrivals(capped(ups, downs), sends)
    assert all(at_s < inf for at_s in arrived)
    for caps, end in ((ups, 1), (downs, 2)):
        for node, cap in enumerate(caps):
            mine = [(send, at_s) for send, at_s in zip(sends, arrived, strict=True) if send[end] == node]
            for (begin_s, *_), _ in mine:
                for _, end_s in mine:
                    inside = sum(send[3] * 8 for send, at_s in mine if send[0] >= begin_s and at_s <= end_s)
                    assert cap is None or inside <= cap * max(0.0, end_s - begin_s) * (1 + 1e-6) + 1e-3
    for pair in {send[1:3] for send in sends}:
        order = sorted((send[0], number) for number, send in enumerate(sends) if send[1:3] == pair)
        there = [arrived[number] for _, number in order]
        assert there == sorted(there)


@given(st.sampled_from([1_000, 8_000, 30_000]), messages, st.booleans())
def test_a_link_that_has_something_to_carry_is_never_idle(rate_bps: int, sends: Any, uplinks: bool) -> None:
    """All uplinks (or downlinks) are the only caps: each is through when one that serves in order would be."""
    caps: tuple[list[int | None], list[int | None]] = ([rate_bps] * 4, [None] * 4)
    arrived = arrivals(capped(*(caps if uplinks else caps[::-1])), sends)
    for node in range(4):
        mine = [n for n, send in enumerate(sends) if send[1 if uplinks else 2] == node]
        free_s = 0.0
        for number in sorted(mine, key=lambda n: sends[n][0]):
            free_s = max(free_s, sends[number][0]) + sends[number][3] * 8 / rate_bps
        if mine:
            assert max(arrived[number] for number in mine) == pytest.approx(free_s, rel=1e-6)


def moving(layers: list[Layer], world: int, algorithm: str = "dp-oadam", **settings: Any) -> Any:
    """A job whose links change so."""
    job = virtual_job({"name": algorithm}, world, **settings)
    links, moments = unrolled(job.links, layers)
    return replace(job, links=links, changes=tuple(LinkChange(m.at_s, m.links, m.series) for m in moments))


def test_a_run_over_a_trace_takes_what_the_trace_says() -> None:
    """Two nodes that send each other a message a step, over uplinks that follow the shipped drive."""
    shipped = load_trace("lte-drive")
    points = tuple(TracePoint(p.at_s, None, (p.up_bps or 0) // 40) for p in shipped.points)
    trace = Trace("uplink", "", points, shipped.duration_s, loop=True)
    link = {"rate": "1Gbit", "delay_ms": 25}
    job = moving([replayed(3, trace, 2, None, 400.0)], 2, steps=None, stop_s=200.0, link=link)
    memory, outcome = play(job, [Wide(rank) for rank in range(2)])
    assert outcome.status == "finished" and not outcome.lost
    segments = [(0.0, 1e9), *((3 + t, float(p.up_bps or 0)) for t, p in trace.unrolled(397.0))]
    uplink = Curve(segments)
    t_s, worst_s = 0.0, 0.0
    for stats in memory.steps[0]:
        begin_s = t_s + 0.010
        t_s = uplink.moment(uplink.carried(begin_s) + WIRE_BITS) + 0.025
        worst_s = max(worst_s, abs(stats.t_s - t_s))
    assert len(memory.steps[0]) > 100 and worst_s < 1e-3  # a downlink of 1 Gbit/s behind it takes microseconds
    told = [line["operation"] for line in memory.link_lines]
    assert told == ["trace uplink"]  # the beginning; the run ends before the trace does


@pytest.mark.parametrize("cut", ["isolated", "flapping", "partitioned"])
def test_a_cut_holds_up_who_needs_it_and_loses_nobody(cut: str) -> None:
    """A method whose nodes wait for cut links, far longer than their patience: no message is missing in any mix, and
    the bits stay the same."""
    limits = {"chunk_deadline_s": 90.0, "patience_s": 2.0, "round_deadline_s": 100.0}
    edges = [(0, 1), (1, 0)]
    layer = {
        "isolated": isolated(1.0, [2], 4, 41.0),
        "flapping": flapping(1.0, 20.0, 0.05, 2, edges),
        "partitioned": partitioned(1.0, [[0, 1]], 4, 41.0),
    }[cut]
    games = [[BilinearGame(rank, noise=0.1) for rank in range(4)] for _ in range(2)]
    parted, outcome = play(moving([layer], 4, "power-gossip", steps=60, exchange=limits), games[0])
    whole, _ = play(virtual_job({"name": "power-gossip"}, 4, 60), games[1])
    assert outcome.status == "finished" and not outcome.lost and not parted.refusals
    assert not any(stats.missing for entries in parted.steps.values() for stats in entries)
    np.testing.assert_array_equal(parted.states(60), whole.states(60))
    assert 39.9 <= parted.steps[0][-1].t_s - whole.steps[0][-1].t_s < 41


def test_who_dies_during_a_cut_is_found_out_after_it() -> None:
    limits = {"chunk_deadline_s": 90.0, "patience_s": 2.0, "round_deadline_s": 100.0}
    job = moving([isolated(1.0, [3], 5, 21.0)], 5, steps=60, exchange=limits)
    memory, outcome = play(job, [BilinearGame(rank) for rank in range(5)], [Kill(1, at_s=5.0, notice_s=1e9)])
    assert outcome.status == "finished" and outcome.lost.keys() == {1}
    missing = {(rank, peer) for rank, entries in memory.steps.items() for s in entries for peer in s.missing}
    assert missing == {(0, 1), (2, 1)}
    assert memory.steps[0][-1].t_s < 21 + 2.0 + 2.5 + 60 * 0.1


def test_what_waits_for_one_link_holds_up_no_other() -> None:
    """One link is cut from 2 s to 10 s; what has left before is not sent again."""
    whole = LinkState(profile=LinkProfile(name="slow", up_bps=KBYTE_S, down_bps=KBYTE_S))
    states = [mesh_plans(links, 3, 1) for links in (whole, whole.sever([(0, 1)]), whole)]
    sends = [(0.0, 0, 1, 5_000), (1.0, 0, 2, 1_000), (4.0, 0, 1, 100)]
    healed: LinkModel[int] = LinkModel(states[0], [(2.0, states[1]), (10.0, states[2])])
    assert [healed.cut_until_s(t_s) for t_s in (1.0, 2.0, 9.0, 10.0)] == [1.0, 10.0, 10.0, 10.0]
    # Both share the second from 1 s on; the third second and a half of it has the other for itself.
    assert arrivals(healed, sends) == pytest.approx([13.5, 2.5, 13.6])
    for_ever: LinkModel[int] = LinkModel(states[0], [(2.0, states[1])])
    assert for_ever.cut_until_s(3.0) == inf
    assert arrivals(for_ever, sends) == pytest.approx([inf, 2.5, inf])


def test_nothing_overtakes_where_a_delay_becomes_shorter() -> None:
    far, near = (
        LinkState(profile=LinkProfile(name="x", up_bps=8_000, down_bps=80_000_000, up_delay_ms=ms, down_delay_ms=ms))
        for ms in (3000, 10)
    )
    model: LinkModel[int] = LinkModel(mesh_plans(far, 2, 1), [(1.5, mesh_plans(near, 2, 1))])
    assert arrivals(model, [(float(second), 0, 1, 900) for second in range(3)]) == pytest.approx([3.9, 4.5, 4.5])


def test_a_run_over_traces_is_deterministic_and_tells_of_a_series_once() -> None:
    def once() -> Memory:
        walk = replace(load_trace("lte-walk"), loop=True)
        job = moving([replayed(0, walk, 4, [1], 60.0), flapping(2, 0.5, 1, 3, [(2, 3)])], 4, steps=60)
        return play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)])[0]

    first, again = once(), once()
    assert [s.t_s for s in first.steps[1]] == [s.t_s for s in again.steps[1]]
    assert first.link_lines == again.link_lines
    told = [(line["t_s"], line["operation"]) for line in first.link_lines]
    assert told == [(0.0, "trace lte-walk at node 1"), (2.0, "apply"), (2.5, "apply")]


@pytest.mark.parametrize("apart_s", [0.05, 0.0005])
@pytest.mark.parametrize(("distribution", "deviation_ms"), [("uniform", 20 / 3**0.5), ("normal", 20), ("pareto", 20)])
def test_jitter_has_the_plan_s_mean_and_deviation_at_every_rate(
    distribution: str, deviation_ms: float, apart_s: float
) -> None:
    """Messages of one packet at 20 and at 2,000 a second; they arrive in the order in which they were sent."""
    figures = {"delay_ms": 100, "jitter_ms": 20, "jitter_distribution": distribution}
    plans = mesh_plans(LinkState(profile=LinkProfile.model_validate(figures)), 2, 1)
    model, delays_s, sent, order = LinkModel[int](plans), [], 0, []
    for sent in range(60_000 if apart_s < 0.01 else 20_000):
        model.send(sent * apart_s, 0, 1, 1500, sent)
        for arrives_s, number in model.advance(model.next_s(sent * apart_s)):
            order.append((arrives_s, number))
            delays_s.append(arrives_s - number * apart_s)
    assert [number for _, number in sorted(order)] == list(range(sent + 1))
    error = 0.25 if apart_s < 0.01 else 0.1  # in 30 s, and in 1,000 s
    assert 1000 * np.mean(delays_s) == pytest.approx(100, abs=error * deviation_ms)
    assert 1000 * np.std(delays_s) == pytest.approx(deviation_ms, rel=error)


def test_jitter_is_that_of_its_seed_and_each_link_has_its_own() -> None:
    profile = LinkProfile.model_validate({"delay_ms": 50, "jitter_ms": 20})

    def news(seed: int) -> list[float]:
        model = LinkModel[int](mesh_plans(LinkState(profile=profile), 2, seed))
        return [model.news_s(t, *ends) - t for t in (0.0, 1.0, 2.0) for ends in ((0, 1), (1, 0))]

    assert news(1) == news(1)
    assert len({*news(1), *news(2)}) == 12 and all(0.03 <= delay_s <= 0.07 for delay_s in news(1))


def test_a_path_with_a_rate_of_its_own_leaves_the_rest_to_others() -> None:
    """Of 10 Mbit/s one path may take 1: 1 Mbit takes a second, and 9 Mbit beside it too; at 5 from 2 s on."""

    def plans(rate: str) -> tuple[Any, ...]:
        whole = LinkState(profile=LinkProfile.model_validate({"rate": "10Mbit"}))
        return mesh_plans(whole.at_edges({(0, 2): LinkProfile.model_validate({"rate": rate})}), 3, 1)

    model: LinkModel[str] = LinkModel(plans("1Mbit"), [(2.0, plans("5Mbit"))])
    for source, megabits, message in ((0, 1, "slow"), (1, 9, "fast"), (0, 11, "longer")):
        model.send(0.0, source, 2, megabits * 1e6 / 8, message)
    found: dict[str, float] = {}
    now_s = 0.0
    while (now_s := model.next_s(now_s)) < inf and len(found) < 3:
        found |= {message: at_s for at_s, message in model.advance(now_s)}
    assert found == pytest.approx({"slow": 1.0, "fast": 1.0, "longer": 4.0})
