"""Traces as changes of links: a layer of a schedule, or the steps of a change by hand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf

from gannet.netem.links.plan import Edge
from gannet.netem.links.schedule import (
    MOST_MOMENTS,
    Layer,
    ScheduleError,
    altered,
    places,
    rounded_s,
    segments_of,
)
from gannet.netem.links.state import WAYS, Change, Hold, LinkState, links_of
from gannet.netem.links.trace import Trace, TracePoint, profile_at


def replayed(
    at_s: float,
    trace: Trace,
    world: int,
    nodes: Sequence[int] | None = None,
    until_s: float = inf,
    where: str = "",
    lenient: bool = False,
) -> Layer:
    """The trace's figures in place of those of these nodes' access links, until it or the entry ends.

    Links with profiles of their own keep their delay and loss. In an outage rates stay as they were, and links from
    or to the nodes are cut, or with `outages: keep` hold what is sent. A trace that never changes is one change.
    Raises ScheduleError for a loop without an end, ValueError for nodes that do not exist. The layer's changes raise
    ValueError where the trace's delay is too short for a profile's jitter; `lenient`: the jitter is then as much as
    the delay holds.
    """
    if trace.loop and until_s == inf and not trace.is_constant:
        raise ScheduleError(f"{where}: a trace that loops needs an end".removeprefix(": "))
    end_s = until_s if trace.loop else min(until_s, rounded_s(at_s + trace.length_s))
    chosen = range(world) if nodes is None else nodes
    links_of(chosen, world)
    steps = tuple(islice(_steps(at_s, trace, world, nodes, end_s, lenient), MOST_MOMENTS + 1))
    if len(steps) > MOST_MOMENTS:
        raise ScheduleError(f"{where}: over {MOST_MOMENTS} changes until {end_s:g} s".removeprefix(": "))
    series = f"trace {trace.name}{places(nodes, None)}" if len(steps) > 1 else ""
    return Layer(at_s, steps, end_s, series, where)


def replay_now(
    trace: Trace, world: int, nodes: Sequence[int] | None, for_s: float
) -> tuple[tuple[tuple[float, Change], ...], Change]:
    """A trace replayed repeatedly for that long, for gannet.netem.links.state.Journal: (in how many seconds, the
    change that then applies), and its first change once more, which raises what is wrong with any of them.

    As in a schedule, packets are always as small as its slowest step needs. Raises the errors of `replayed`.
    """
    steps = replayed(0.0, replace(trace, loop=True), world, nodes, for_s, lenient=True).steps
    segments = min(segments_of(change(LinkState())) for _, change in steps)
    changes = tuple((in_s, partial(_in_packets, segments, change)) for in_s, change in steps)
    strict = replayed(0.0, replace(trace, loop=False), world, nodes, min(for_s, trace.length_s)).steps

    def trial(state: LinkState) -> LinkState:
        for _, change in strict:
            change(state)
        return changes[0][1](state)

    return changes, trial


def _steps(
    at_s: float, trace: Trace, world: int, nodes: Sequence[int] | None, end_s: float, lenient: bool
) -> Iterator[tuple[float, Change]]:
    chosen = frozenset(range(world) if nodes is None else nodes)
    links = links_of(chosen, world)
    cuts = {way: frozenset(edge for edge in links if edge[end] in chosen) for way, end in (("up", 0), ("down", 1))}
    touched = frozenset((rank, way) for rank in chosen for way in WAYS if trace.touches(f"{way}_bps"))
    before = _first_rates(trace) if trace.outages == "keep" else TracePoint(0.0)
    for after_s, point in trace.unrolled(end_s - at_s):
        out = [way for way in WAYS if getattr(point, f"{way}_bps") == 0]
        before = replace(point, up_bps=point.up_bps or before.up_bps, down_bps=point.down_bps or before.down_bps)
        cut = frozenset[Edge]().union(*(cuts[way] for way in out)) if trace.outages == "drop" else frozenset[Edge]()
        held = frozenset(hold for hold in touched if hold[1] in out) if trace.outages == "keep" else frozenset[Hold]()
        change = partial(_replay, before, cut, touched, held, nodes, trace.name, lenient, trace.buffer_bytes)
        yield rounded_s(at_s + after_s), change


def _first_rates(trace: Trace) -> TracePoint:
    """The first rate of each direction that is not 0: an outage at the very beginning has a buffer of that rate."""
    points = [point for track in trace.tracks for point in track.points]
    first = {f: next((r for p in points if (r := getattr(p, f))), None) for f in ("down_bps", "up_bps")}
    return TracePoint(0.0, **first)


def _replay(
    point: TracePoint,
    cut: frozenset[Edge],
    touched: frozenset[Hold],
    held: frozenset[Hold],
    nodes: Sequence[int] | None,
    name: str,
    lenient: bool,
    buffer_bytes: int | None,
    state: LinkState,
) -> LinkState:
    changed = altered(state, nodes, lambda old: profile_at(point, old, name, lenient, buffer_bytes))
    changed = changed.hold((changed.held - touched) | held)
    return changed.sever(cut) if cut else changed


def _in_packets(segments: int, change: Change, state: LinkState) -> LinkState:
    """The change, with packets of at most `segments` segments, and no more than the state below it allows."""
    return change(state).model_copy(update={"segments": min(segments, state.segments or segments_of(state))})
