"""Scheduled changes of links: entries of a schedule, unrolled into the states that they lead to. Pure.

Every entry is a layer over the initial state of the links. Layers are ordered by their times, then by their order in
the spec, and each changes what lies below it: later entries win for what they touch. A layer may have several steps
(a ramp, a flap, a trace of gannet.netem.links.replay) and may end; its changes are then undone, and the layers above
it stay. gannet.netem.links.state.Journal does the same for changes that are made live.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf

from gannet.netem.links.edge_profiles import gives
from gannet.netem.links.plan import Edge, packet_segments
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.ramps import between, edge_profile, rate_between
from gannet.netem.links.state import Change, LinkState, links_of

# A ramp is a stair: a step each quarter of a second, or a hundred steps where that is coarser.
_RAMP_STEP_S, _RAMP_STEPS = 0.25, 100
MOST_MOMENTS = 200_000


class ScheduleError(ValueError):
    """An invalid schedule; the message says which entry and why."""


@dataclass(frozen=True)
class Layer:
    """One entry, from `at_s` until `until_s`: `steps` are (moment, change from then on), the first at `at_s`.

    `series` names a layer whose steps belong together (a trace, a ramp). `where` names the entry in errors.
    """

    at_s: float
    steps: tuple[tuple[float, Change], ...]
    until_s: float = inf
    series: str = ""
    where: str = ""

    def change_at(self, t_s: float) -> Change | None:
        """The layer's change at that moment; None: none."""
        if not self.at_s <= t_s < self.until_s:
            return None
        return self.steps[bisect_right(self.steps, t_s, key=lambda step: step[0]) - 1][1]


@dataclass(frozen=True)
class Moment:
    """From `at_s` on, `links` are applied; `series`: which series makes a step then, if nothing else changes."""

    at_s: float
    links: LinkState
    series: str = ""


def unrolled(base: LinkState, layers: Iterable[Layer]) -> tuple[LinkState, tuple[Moment, ...]]:
    """`base`, and the states that these layers lead to from it, in order, without those that change nothing.

    How many segments a packet may hold is the same in all of them: connections keep their first setting. Raises
    ScheduleError for a ramp between a cap and no cap, and for too many moments.
    """
    ordered = sorted(layers, key=lambda layer: layer.at_s)
    if not ordered:
        return base, ()
    times = {t_s for layer in ordered for t_s, _ in layer.steps if t_s < layer.until_s}
    times |= {layer.until_s for layer in ordered if layer.until_s < inf}
    if len(times) > MOST_MOMENTS:
        raise ScheduleError(f"the schedule has {len(times)} changes; {MOST_MOMENTS} at most")
    moments: list[Moment] = []
    before = base
    for t_s in sorted(times):
        links = base
        for layer in ordered:
            if (change := layer.change_at(t_s)) is not None:
                try:
                    links = change(links)
                except ValueError as error:
                    raise ScheduleError(f"{layer.where}: {error}" if layer.where else str(error)) from None
        if links != before:
            moments.append(Moment(t_s, links, _series_at(t_s, ordered)))
        before = links
    segments = min(segments_of(links) for links in (base, *(moment.links for moment in moments)))
    fixed = {"segments": segments}
    return base.model_copy(update=fixed), tuple(
        replace(moment, links=moment.links.model_copy(update=fixed)) for moment in moments
    )


def _series_at(t_s: float, layers: Sequence[Layer]) -> str:
    """The name of the series in progress, if nothing else changes; the same as long as they are the same."""
    if any(not layer.series and (t_s == layer.until_s or _has_step(layer, t_s)) for layer in layers):
        return ""
    under_way = (
        layer.series
        for layer in layers
        if layer.series and (layer.at_s <= t_s <= min(layer.until_s, layer.steps[-1][0]) or t_s == layer.until_s)
    )
    return ", ".join(under_way)


def _has_step(layer: Layer, t_s: float) -> bool:
    place = bisect_left(layer.steps, t_s, key=lambda step: step[0])
    return place < len(layer.steps) and layer.steps[place][0] == t_s


def segments_of(links: LinkState) -> int:
    """TCP segments that a packet may hold in this state."""
    profiles = [links.profile, *links.nodes.values()]
    rates = [rate for profile in profiles for rate in (profile.up_bps, profile.down_bps)]
    rates += [profile.path_bps for profile in links.rates.values()]
    singly = any(profile.takes_packets_singly for profile in (*profiles, *links.edges.values()))
    return packet_segments(rates, singly or any(p.buffer_packets is not None for p in links.rates.values()))


# The kinds of entries. `nodes` and `edges` of None: everywhere. Times in seconds of the training clock.


def applied(
    at_s: float,
    profile: LinkProfile,
    nodes: Sequence[int] | None = None,
    edges: Sequence[Edge] | None = None,
    until_s: float = inf,
    where: str = "",
) -> Layer:
    """A profile at nodes and edges; with neither, at all nodes, while single edges keep theirs."""
    return Layer(at_s, ((at_s, partial(_apply, profile, nodes, edges)),), until_s, where=where)


def ramped(
    at_s: float,
    ramp_s: float,
    profile: LinkProfile,
    nodes: Sequence[int] | None = None,
    edges: Sequence[Edge] | None = None,
    until_s: float = inf,
    where: str = "",
) -> Layer:
    """From the present state to a profile, along a straight line in `ramp_s` seconds, in steps of equal length.

    Each step has the line's value at its middle. Distributions, bursts, buffers and queues are the profile's from the
    first step on. The change raises ScheduleError where a rate has a cap at only one end of the ramp.
    """
    count = min(_RAMP_STEPS, max(1, ceil(ramp_s / _RAMP_STEP_S)))
    steps: list[tuple[float, Change]] = [
        (rounded_s(at_s + ramp_s * step / count), partial(_ramp, profile, nodes, edges, (step + 0.5) / count))
        for step in range(count)
    ]
    steps.append((rounded_s(at_s + ramp_s), partial(_apply, profile, nodes, edges)))
    return Layer(at_s, tuple(steps), until_s, f"ramp to {profile.name}{places(nodes, edges)}", where)


def flapping(at_s: float, down_s: float, up_s: float, times: int, links: Iterable[Edge], where: str = "") -> Layer:
    """These directed links cut for `down_s`, then open for `up_s`, repeated `times` times."""
    if times > MOST_MOMENTS:
        raise ScheduleError(f"{where}: {times} times; {MOST_MOMENTS} at most")
    cut: Change = partial(_sever, frozenset(links))
    steps: list[tuple[float, Change]] = []
    for number in range(times):
        steps += [(rounded_s(at_s + number * (down_s + up_s)), cut)]
        steps += [(rounded_s(at_s + number * (down_s + up_s) + down_s), _leave)] if number < times - 1 else []
    until_s = rounded_s(at_s + (times - 1) * (down_s + up_s) + down_s)
    return Layer(at_s, tuple(steps), until_s, where=where)


def partitioned(
    at_s: float, groups: Sequence[Sequence[int]], world: int, until_s: float = inf, where: str = ""
) -> Layer:
    """Every link between two groups cut, and no other; ValueError as LinkState.partition."""
    LinkState().partition(groups, world)
    return Layer(at_s, ((at_s, lambda state: state.partition(groups, world)),), until_s, where=where)


def healed(at_s: float, where: str = "") -> Layer:
    """Every cut ended, whatever made it."""
    return Layer(at_s, ((at_s, LinkState.heal),), where=where)


def isolated(at_s: float, nodes: Sequence[int], world: int, until_s: float = inf, where: str = "") -> Layer:
    """Each of these nodes cut off from all others; ValueError for a node that does not exist."""
    return Layer(at_s, ((at_s, partial(_sever, links_of(nodes, world))),), until_s, where=where)


# Their effects on a state.


def _leave(state: LinkState) -> LinkState:
    return state


def _sever(links: frozenset[Edge], state: LinkState) -> LinkState:
    return state.sever(links)


def _apply(
    profile: LinkProfile, nodes: Sequence[int] | None, edges: Sequence[Edge] | None, state: LinkState
) -> LinkState:
    if nodes is None and edges is None:
        return state.model_copy(update={"profile": profile, "nodes": {}, "held": frozenset()})
    return state.apply(profile, nodes, edges)


def _ramp(
    profile: LinkProfile, nodes: Sequence[int] | None, edges: Sequence[Edge] | None, share: float, state: LinkState
) -> LinkState:
    if nodes is not None or edges is None:
        state = altered(state, nodes, lambda old: between(old, profile, share))
        state = state.hold(frozenset(hold for hold in state.held if nodes is not None and hold[0] not in nodes))
    figures, rate = gives(profile)
    update: dict[str, object] = {}
    if figures and edges:
        changed = {edge: between(edge_profile(state, edge), profile, share, rates=False) for edge in edges}
        update["edges"] = {**state.edges, **changed}
    if rate and edges and (profile.path_bps is not None or any(edge in state.rates for edge in edges)):
        update["rates"] = {**state.rates, **{edge: rate_between(state, edge, profile, share) for edge in edges}}
    return state.model_copy(update=update) if update else state


def altered(state: LinkState, nodes: Sequence[int] | None, alter: Callable[[LinkProfile], LinkProfile]) -> LinkState:
    """The state with each of these nodes' profiles altered; None: of all nodes."""
    if nodes is not None:
        return state.model_copy(update={"nodes": {**state.nodes, **{r: alter(state.profile_of(r)) for r in nodes}}})
    update = {"profile": alter(state.profile), "nodes": {r: alter(old) for r, old in state.nodes.items()}}
    return state.model_copy(update=update)


def places(nodes: Sequence[int] | None, edges: Sequence[Edge] | None) -> str:
    """Where an entry applies, for example " at node 2, 0→3"; empty where it applies everywhere."""
    parts = [f"node {rank}" for rank in nodes or ()] + [f"{a}→{b}" for a, b in edges or ()]
    return f" at {', '.join(parts)}" if parts else ""


def rounded_s(t_s: float) -> float:
    """A sum of seconds, rounded to the nanosecond: equal moments are then equal numbers."""
    return round(t_s, 9)
