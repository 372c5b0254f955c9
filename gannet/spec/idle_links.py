"""Settings of links that do nothing: found in a spec's `links:` before anything starts, so that none is dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from gannet.netem.links.edge_profiles import buffer_misfit, edge_misfit, given_figures
from gannet.netem.links.plan import Edge
from gannet.netem.links.profile import LinkProfile
from gannet.spec.schedule import ScheduledChange

Nodes = Mapping[int, LinkProfile]


def idle_link_field(
    profile: LinkProfile, nodes: Nodes, edges: Mapping[Edge, LinkProfile], schedule: Sequence[ScheduledChange]
) -> str:
    """The first setting that does nothing, by its path below `links`, and what to do; empty: none.

    A buffer needs a rate to be in front of, which a trace may bring.
    """
    replayed = any(
        entry.trace is not None and any(map(entry.trace.touches, ("down_bps", "up_bps"))) for entry in schedule
    )
    for where, each, at_edge in _profiles(profile, nodes, edges, schedule):
        wrong = edge_misfit(each) if at_edge else "" if replayed else buffer_misfit(each)
        if wrong := wrong or _jitter_misfit(each):
            return f"{where}: {wrong}"
    return ""


def overridden_field(
    profile: LinkProfile, nodes: Nodes, schedule: Sequence[ScheduledChange], own: Collection[Edge], world: int
) -> str:
    """The first figure given for nodes all of whose links have their own, by its path below `links`; empty: none.

    `own`: the links that do. A profile by name may be given for its rate alone.
    """
    if len(own) < 2 * (world - 1):
        return ""
    left = [sum((a, b) not in own and (b, a) not in own for b in range(world) if b != a) for a in range(world)]
    placed: list[tuple[str, LinkProfile, tuple[int, ...] | None]]
    placed = [("profile", profile, None), *((f"nodes.{rank}", p, (rank,)) for rank, p in nodes.items())]
    for number, entry in enumerate(schedule):
        if entry.profile is not None and not entry.edges:
            placed.append((f"schedule.{number}.profile", entry.profile, entry.nodes))
    for where, each, at in placed:
        if (given := given_figures(each)) and not any(left[rank] for rank in at or range(world)):
            name = "delay_ms" if given[0].endswith("_delay_ms") else given[0]
            return f"{where}: {name} does nothing: regions, matrices or edges say it of every link; leave it out"
    return ""


def _profiles(
    profile: LinkProfile, nodes: Nodes, edges: Mapping[Edge, LinkProfile], schedule: Sequence[ScheduledChange]
) -> Iterator[tuple[str, LinkProfile, bool]]:
    """(path, profile, whether it is of single links)"""
    yield "profile", profile, False
    for rank, each in nodes.items():
        yield f"nodes.{rank}", each, False
    for (a, b), each in edges.items():
        yield f"edges.{a}>{b}", each, True
    for number, entry in enumerate(schedule):
        if entry.profile is not None:
            yield f"schedule.{number}.profile", entry.profile, bool(entry.edges)


def _jitter_misfit(profile: LinkProfile) -> str:
    if profile.jitter_distribution != "uniform" and not profile.jitter_ms:
        return f"jitter_distribution: {profile.jitter_distribution} does nothing without a jitter_ms"
    return ""
