"""Schedules and traces on real links: when they take effect, and what passes, by observers that are not ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from gannet.fabrics.job import LinkChange
from gannet.fabrics.links.live_links import LiveLinks
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.replay import replayed
from gannet.netem.links.schedule import Layer, applied, flapping, unrolled
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace import Trace, TracePoint
from gannet.netem.links.trace_files import load_trace
from tests.support.live import SWIFT, WORLD, LiveLab, live_lab, live_links

pytestmark = pytest.mark.real("links")
TOOL = str(Path(__file__).parents[2] / "netem" / "rate_tool.py")
FRAME_BITS = 1514 * 8
IN_TIME_S = 0.1
# Until a trace begins, and while frames are on their way, its link carries what the profile allows.
FROM_S = BIN_S = 0.5


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveLab]:
    with live_lab() as lab:
        yield lab


def changes_of(layers: Sequence[Layer]) -> list[LinkChange]:
    _, moments = unrolled(LinkState(profile=SWIFT), layers)
    return [LinkChange(moment.at_s, moment.links, moment.series) for moment in moments]


def begin_of(live: LiveLinks) -> float:
    """When the training clock began, on CLOCK_MONOTONIC. (The order is the run's own; who watches it is not.)"""
    assert live._begin_s is not None
    return live._begin_s


def test_rates_change_when_they_should_by_the_kernels_own_word(shared: LiveLab) -> None:
    """tc, asked some hundred times a second, sees the rates of a schedule, in order, within a tenth of a second.

    All of them, but for those that were over before a machine that stood still went on.
    """
    rates = [2_000_000 + 500_000 * number for number in range(10)]
    layers = [
        applied(1.0 + 0.7 * number, LinkProfile(name=f"r{number}", up_bps=rate, down_bps=rate), [1])
        for number, rate in enumerate(rates)
    ]
    with live_links(shared, changes=changes_of(layers), start=False) as live:
        watched = shared.start(1, sys.executable, TOOL, "buckets", "mesh0", "9")
        live.start()
        seen = json.loads(watched.readline())
        begin_s = begin_of(live)
    late_s, missed = [], []
    for layer, rate in zip(layers, rates, strict=True):
        times = [at_s for at_s, found in seen if found == rate]
        if not times:
            missed.append(rate)
            continue
        before = [at_s for at_s, _ in seen if at_s < times[0]]
        assert times[0] > begin_s + layer.at_s  # not too early
        late_s.append(before[-1] - begin_s - layer.at_s)  # it was not there yet then
    assert [found for (_, old), (_, found) in pairwise(seen) if found != old] == [r for r in rates if r not in missed]
    assert len(missed) <= len(rates) // 4 and missed.count(rates[-1]) == 0
    assert median(late_s) < IN_TIME_S, late_s


def test_delays_and_cuts_take_effect_when_they_should_by_the_packets_that_arrive(shared: LiveLab) -> None:
    """A datagram every 4 ms: those sent after a moment must have what holds from then on."""
    far = LinkProfile(name="far", up_delay_ms=45, down_delay_ms=45)
    layers: list[Layer] = [applied(0.8 + number, far, None, [(0, 1)], 1.3 + number) for number in range(4)]
    layers.append(flapping(5.0, 0.5, 0.5, 4, [(0, 1)]))
    endpoint = shared.endpoint(1)
    with live_links(shared, changes=changes_of(layers), start=False) as live:
        caught = shared.start(1, sys.executable, TOOL, "catch", endpoint, "2")
        live.start()
        shared.sandbox.run([sys.executable, TOOL, "tick", endpoint, "9.5", "4"], "node0")
        arrived = [(sent_s, 1000 * (came_s - sent_s)) for came_s, sent_s in json.loads(caught.readline())]
        begin_s = begin_of(live)
    late_s = []
    for number in range(4):
        slow = [sent_s for sent_s, ms in arrived if ms > 40 and 0.5 < sent_s - begin_s - number < 1.6]
        if len(slow) <= 50:  # of 125; the machine stood still, or else they are missing each time
            continue
        # The first that took long, and the last: each was sent when its moment had come, but for how late it came.
        late_s += [slow[0] - begin_s - (0.8 + number), slow[-1] - begin_s - (1.3 + number)]
    for number in range(4):
        near = [sent_s for sent_s, _ in arrived if 4.8 < sent_s - begin_s - number < 5.8]
        down_s, up_s = max(pairwise(near), key=lambda pair: pair[1] - pair[0])
        if up_s - down_s <= 0.3:
            continue
        late_s += [down_s - begin_s - (5.0 + number), up_s - begin_s - (5.5 + number)]
    # Two moments of each of eight changes, of which a machine that stands still may spoil a few.
    assert len(late_s) >= 12, late_s
    # What was sent 5 ms before a change may meet what comes after it, and datagrams leave every 4 ms.
    assert sorted(late_s)[len(late_s) // 4] > -0.012, late_s
    assert median(late_s) < IN_TIME_S, late_s


def delivered(lab: LiveLab, live: LiveLinks, seconds: float, bps: float) -> list[float]:
    """When every full frame came that node 0 pours into node 1, on the training clock."""
    endpoint = lab.endpoint(1)
    caught = lab.start(1, sys.executable, TOOL, "catch", endpoint, "2")
    live.start()
    lab.sandbox.run([sys.executable, TOOL, "pour", endpoint, str(seconds), str(bps)], "node0")
    begin_s = begin_of(live)
    return [came_s - begin_s for came_s, _ in json.loads(caught.readline())]


def carried_bits(trace: Trace, from_s: float, to_s: float) -> float:
    """What the downlink of a trace carries between two moments of it."""
    points = trace.points
    ends = [*(point.at_s for point in points[1:]), trace.duration_s]
    return sum(
        (point.down_bps or 0) * max(0.0, min(to_s, end_s) - max(from_s, point.at_s))
        for point, end_s in zip(points, ends, strict=True)
    )


@pytest.mark.parametrize("kind", ["steps", "lte-walk"])
def test_a_link_delivers_what_its_trace_says(shared: LiveLab, kind: str) -> None:
    """More is sent than ever fits. In all at most 3% more; in nine of ten half seconds, within a tenth of the trace's
    mean and what a change that is late by a tenth of a second lets through.

    Looked at up to four times, for what a machine that stands still does not send is missing for ever: it does so at
    another moment each time, and a change that never takes effect is missed in each.
    """
    steps = [4_000_000, 1_500_000, 6_000_000, 0, 3_000_000, 8_000_000, 2_000_000]
    trace = Trace("steps", "", tuple(TracePoint(1.0 * n, bps, bps) for n, bps in enumerate(steps)), 7.0)
    if kind == "lte-walk":  # Mahimahi's pair: ten changes a second
        walk = load_trace(kind)
        trace = Trace("walk", "", tuple(point for point in walk.points if point.at_s < 8), 8.0)
    highest = max(point.down_bps or 0 for point in trace.points)
    wrong, shares = set(range(round(FROM_S / BIN_S), round(trace.duration_s / BIN_S))), list[float]()
    most = len(wrong) // 10
    for _ in range(4):
        with live_links(shared, changes=changes_of([replayed(1.0, trace, WORLD, [1])]), start=False) as live:
            came = delivered(shared, live, 1 + trace.duration_s, 1.3 * highest)
        wrong -= right_bins(trace, came, wrong)
        got = FRAME_BITS * sum(FROM_S <= t - 1 < trace.duration_s for t in came)
        shares.append(got / carried_bits(trace, FROM_S, trace.duration_s))
        if len(wrong) <= most and median(shares) <= 1.03:
            break
    assert len(wrong) <= most and median(shares) <= 1.03, (wrong, shares)


def right_bins(trace: Trace, came: Sequence[float], bins: Collection[int]) -> set[int]:
    """Those half seconds in which as many frames came (s; the trace began at 1 s) as it carries."""
    mean, right = carried_bits(trace, 0, trace.duration_s) / trace.duration_s, set()
    for number in bins:
        from_s, to_s = number * BIN_S, (number + 1) * BIN_S
        bits = FRAME_BITS * sum(from_s <= t - 1 < to_s for t in came)
        bounds = [carried_bits(trace, max(0, from_s - shift), to_s - shift) for shift in (0.0, 0.05, IN_TIME_S)]
        slack = 0.1 * mean * BIN_S
        if min(bounds) - slack <= bits <= max(bounds) + slack:
            right.add(number)
    return right


def test_nothing_passes_in_an_outage_and_all_does_after_it(shared: LiveLab) -> None:
    points = (TracePoint(1.0 * second, None, 4_000_000 * (second % 2)) for second in range(10))
    out = Trace("out", "", tuple(points), 12.0)
    endpoint = shared.endpoint(1)
    with live_links(shared, changes=changes_of([replayed(1.0, out, WORLD, [0])]), start=False) as live:
        caught = shared.start(1, sys.executable, TOOL, "catch", endpoint, "2")
        live.start()
        shared.sandbox.run([sys.executable, TOOL, "tick", endpoint, "12", "10"], "node0")
        sent = [sent_s - begin_of(live) for _, sent_s in json.loads(caught.readline())]
    # A tick may be late on a busy machine; none is lost but in the outage, and there none comes.
    around = {at_s: pair for at_s in range(1, 10, 2) for pair in pairwise(sent) if pair[0] <= at_s + 0.5 < pair[1]}
    outages = {at_s: pair for at_s, pair in around.items() if pair[1] - pair[0] > 0.7}
    assert len(outages) >= 4, around  # one may have been over before a machine that stood still went on
    assert median(begin_s - at_s for at_s, (begin_s, _) in outages.items()) < IN_TIME_S, outages
    ends_s = [end_s - (at_s + 0.99) for at_s, (_, end_s) in outages.items()]
    assert min(ends_s) >= 0 and median(ends_s) < 0.01 + IN_TIME_S, outages
    assert sum(sent_s % 2 < 1 for sent_s in sent if sent_s < 10) > 300  # of 500, less what was sent before all began
