"""The `links.schedule:` part of a spec: one entry per change, each of one kind, and the fields that each allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer, PositiveInt, model_validator

from gannet.netem.links import replay, schedule
from gannet.netem.links.profile import LinkProfile, load_profile, profile_of
from gannet.netem.links.schedule import Layer, ScheduleError
from gannet.netem.links.state import links_of
from gannet.netem.links.trace import Outages, Trace
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_files import load_trace
from gannet.node.tasks.config import Settings


def _profile(value: Any) -> Any:
    """A profile by its name or its file, or of fields; these are its name, unless they have one."""
    if isinstance(value, Mapping):
        words = (f"{key} {each}" for key, each in value.items() if isinstance(each, str | int | float))
        return profile_of({"name": ", ".join(words) or "custom", **value})
    return load_profile(value) if isinstance(value, str) else value


def _edge(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    ends = value.split(">")
    if len(ends) != 2 or not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", end) for end in ends):
        raise ValueError('an edge is written "SENDER>RECEIVER", for example "0>3"')
    return (int(ends[0]), int(ends[1]))


def _trace(value: Any) -> Any:
    """A shipped trace's name, the path of a file, or {name, csv}: a trace that was sent along."""
    if isinstance(value, str):
        return load_trace(value)
    if isinstance(value, dict) and set(value) == {"name", "csv"} and all(isinstance(v, str) for v in value.values()):
        return parse_csv(value["csv"], value["name"], bare_bps=True)
    if isinstance(value, Trace):
        return value
    raise ValueError("a trace is a name, such as lte-drive, or the path of a file, CSV or Mahimahi's")


def _groups(value: Any) -> Any:
    """The groups of "0,1:2,3"."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    groups = [group.split(",") for group in value.split(":")]
    if not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", rank) for group in groups for rank in group):
        raise ValueError("write nodes by commas and groups by colons, in quotes: '0,1:2,3'")
    return tuple(tuple(int(rank) for rank in group) for group in groups)


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("name one at least, or leave it out")
    return value


def each_once(value: Any) -> Any:
    """Refuse keys that differ as text and mean one node or link, such as 2 and "2", or "0>1" and "0 > 1"."""
    if isinstance(value, Mapping):
        seen: dict[tuple[int, ...], Any] = {}
        for key in value:
            if re.fullmatch(r"[0-9\s>]{1,40}", str(key)):
                ranks = tuple(map(int, re.findall("[0-9]+", str(key))))
                if ranks in seen:
                    raise ValueError(f"{seen[ranks]!r} and {key!r} are the same: keep one")
                seen[ranks] = key
    return value


Profile = Annotated[LinkProfile, BeforeValidator(_profile)]
# At single links a profile's own fields replace the rate or all else, so that what was not given must stay so.
EdgeProfile = Annotated[
    LinkProfile,
    BeforeValidator(_profile),
    PlainSerializer(lambda profile: profile.model_dump(mode="json", exclude_unset=True), when_used="json"),
]
Edge = Annotated[
    tuple[int, int],
    BeforeValidator(_edge),
    PlainSerializer(lambda edge: f"{edge[0]}>{edge[1]}", return_type=str, when_used="json"),
]
Nodes = Annotated[tuple[int, ...], BeforeValidator(_several), AfterValidator(_some)]
Edges = Annotated[tuple[Edge, ...], AfterValidator(_some)]
Groups = Annotated[
    tuple[tuple[int, ...], ...],
    BeforeValidator(_groups),
    PlainSerializer(
        lambda groups: ":".join(",".join(map(str, g)) for g in groups), return_type=str, when_used="json"
    ),
]
TraceField = Annotated[
    InstanceOf[Trace],
    BeforeValidator(_trace),
    PlainSerializer(lambda trace: {"name": trace.name, "csv": trace.to_csv()}, return_type=dict, when_used="json"),
]
Moment = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class Flap(Settings):
    """Links that are down for `down_s`, then up for `up_s`, and so on: `times` downs."""

    down_s: Seconds
    up_s: Seconds
    times: PositiveInt = 1


# The fields that each kind of entry allows, besides its time.
_FIELDS = {
    "profile": ("nodes", "edges", "ramp_s", "for_s"),
    "flap": ("nodes", "edges"),
    "partition": ("for_s",),
    "heal": (),
    "isolate": ("for_s",),
    "trace": ("nodes", "loop", "outages", "for_s"),
}


class ScheduledChange(Settings):
    """A change from `at_s` seconds of training on; it is of one kind, and ends after `for_s` if that is given.

    `profile`: at `nodes` and `edges`, or at all nodes; with `ramp_s` from the present state along a straight line.
    `flap`: all links of `nodes`, and `edges`, down and up again. `partition`: "0,1:2,3", no link between groups.
    `heal`: ends every cut. `isolate`: nodes cut off from all others. `trace`: replayed at `nodes`, or at all;
    over and over with `loop`, and `outages: keep` or `drop` for what becomes of packets in them, where that is not to
    be as the trace itself says.
    """

    at_s: Moment
    profile: EdgeProfile | None = None
    ramp_s: Seconds | None = None
    flap: Flap | None = None
    partition: Groups | None = None
    heal: Literal[True] | None = None
    isolate: Nodes | None = None
    trace: TraceField | None = None
    loop: bool | None = None
    outages: Outages | None = None
    nodes: Nodes | None = None
    edges: Edges | None = None
    for_s: Seconds | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> ScheduledChange:
        kinds = [kind for kind in _FIELDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            got = " and ".join(kinds) or "none of them"
            raise ValueError(f"an entry is one of {', '.join(_FIELDS)} (got {got})")
        given = [
            name
            for name in ("nodes", "edges", "ramp_s", "for_s", "loop", "outages")
            if getattr(self, name) is not None
        ]
        if odd := [name for name in given if name not in _FIELDS[kinds[0]]]:
            allowed = ", ".join(("at_s", *_FIELDS[kinds[0]]))
            raise ValueError(f"{odd[0]} is not a field of {kinds[0]}; allowed: {allowed}")
        if self.flap is not None and self.nodes is None and self.edges is None:
            raise ValueError("flap needs nodes or edges")
        return self

    @property
    def what(self) -> str:
        """The entry in a few words, for example "ramp to 3g-slow at node 2"."""
        if self.profile is not None:
            words = f"{'ramp to ' if self.ramp_s else ''}{self.profile.name}"
        elif self.trace is not None:
            words = f"trace {self.trace.name}"
        elif self.isolate is not None:
            words = f"isolate {','.join(map(str, self.isolate))}"
        elif self.partition is not None:
            words = f"partition {':'.join(','.join(map(str, group)) for group in self.partition)}"
        else:
            words = "flap" if self.flap is not None else "heal"
        return words + schedule.places(self.nodes, self.edges)

    @property
    def played(self) -> Trace:
        """The trace as this entry replays it."""
        assert self.trace is not None
        loop = self.trace.loop if self.loop is None else self.loop
        return replace(self.trace, loop=loop, outages=self.outages or self.trace.outages)

    def named(self) -> Iterator[tuple[str, set[int]]]:
        """(field, ranks) of the fields that name nodes."""
        yield "nodes", set(self.nodes or ())
        yield "edges", {rank for edge in self.edges or () for rank in edge}
        yield "isolate", set(self.isolate or ())
        yield "partition", {rank for group in self.partition or () for rank in group}

    def layer(self, world: int, last_s: float | None, where: str) -> Layer:
        """The entry as a layer of gannet.netem.links.schedule; `last_s`: when a trace that loops may end. Raises
        ScheduleError.
        """
        until_s = inf if self.for_s is None else self.at_s + self.for_s
        if self.profile is not None:
            at = self.nodes, self.edges, until_s, where
            if self.ramp_s is not None:
                return schedule.ramped(self.at_s, self.ramp_s, self.profile, *at)
            return schedule.applied(self.at_s, self.profile, *at)
        if self.flap is not None:
            links = links_of(self.nodes or (), world) | set(self.edges or ())
            return schedule.flapping(self.at_s, self.flap.down_s, self.flap.up_s, self.flap.times, links, where)
        if self.partition is not None:
            try:
                return schedule.partitioned(self.at_s, self.partition, world, until_s, where)
            except ValueError as error:
                raise ScheduleError(f"{where}.partition: {error}") from None
        if self.isolate is not None:
            return schedule.isolated(self.at_s, self.isolate, world, until_s, where)
        if self.trace is not None:
            trace = self.played
            if trace.loop and self.for_s is None and not trace.is_constant:
                if last_s is None:
                    raise ScheduleError(
                        f"{where}.loop: a trace that loops needs an end: give for_s, stop.seconds of the run, "
                        "or loop: false to replay it once"
                    )
                until_s = max(last_s, self.at_s + trace.length_s)
            return replay.replayed(self.at_s, trace, world, self.nodes, until_s, where)
        return schedule.healed(self.at_s, where)
