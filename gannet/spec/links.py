"""The `links:` part of a spec: profiles for all nodes, single nodes and single edges, regions, and their changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from gannet.fabrics.job import LinkChange
from gannet.netem.links.edge_profiles import gives
from gannet.netem.links.fields import FATES
from gannet.netem.links.matrix_files import MatrixError
from gannet.netem.links.pairs.rates import load_rates, rate_edges
from gannet.netem.links.profile import PROFILE_FIELDS, LinkProfile, load_profile
from gannet.netem.links.regions import (
    RateTable,
    Table,
    halved,
    load_table,
    matrix_edges,
    region_edges,
    tables_in,
)
from gannet.netem.links.schedule import ScheduleError, unrolled
from gannet.netem.links.stack import Stack
from gannet.netem.links.state import LinkState
from gannet.node.tasks.config import Settings
from gannet.spec.idle_links import idle_link_field, overridden_field
from gannet.spec.regions import RegionsSpec
from gannet.spec.schedule import Edge, EdgeProfile, Profile, ScheduledChange, each_once
from gannet.spec.shared import SharedSpec

# After the last second of a run its nodes make the steps to their common end; traces that loop continue until then.
_AFTER_S = 60.0


# Matrices by rank: the field, and its short name where a file is meant.
_TABLES = {"delays_ms": "delays", "round_trips_ms": "round_trips", "losses_percent": "losses"}


def _cells(field: str) -> BeforeValidator:
    """The cells of a matrix given as such, or as the path of a file."""
    return BeforeValidator(lambda value: load_table(value, field) if isinstance(value, str) else value)


Rates = Annotated[
    RateTable | None, BeforeValidator(lambda value: load_rates(value) if isinstance(value, str) else value)
]


def _check_all_is_read(given: Mapping[str, Any]) -> None:
    """Refuse files that hold another matrix than those that are read from them."""
    names = {**_TABLES, "rates": "rates"}
    for path in {value for field in names if isinstance(value := given.get(field), str)}:
        try:
            held = tables_in(path)
        except MatrixError:
            continue  # said when it is read
        if not held.issuperset(field for field in names if given.get(field) == path):
            continue  # likewise
        for field in sorted(held):
            if given.get(field) != path:
                raise ValueError(f"{path}: has {field} too, which nothing reads: add {names[field]}: {path}")


class LinksSpec(Settings):
    """The links of a run: `profile` for all, replaced for single `nodes` and directed `edges`; and their changes.

    A profile's own fields may stand in the place of `profile`: {rate: 10Mbit, delay_ms: 25}.

    `regions`, or `delays_ms` (or `round_trips_ms`, which are halved) and `losses_percent` (by rank: sender's row,
    receiver's column; or `delays`, `round_trips` and `losses`, the paths of CSV or YAML files), give delay and loss
    between each pair of nodes, and `rates` (cells such as 10Mbit, or the path of a file) a rate below those of its
    ends; `edges` take precedence. `shared` are bottlenecks inside the network that several links pass together.
    """

    profile: Profile = Field(default_factory=lambda: load_profile("unshaped"))
    nodes: Annotated[dict[int, Profile], BeforeValidator(each_once)] = Field(default_factory=dict)
    edges: Annotated[dict[Edge, EdgeProfile], BeforeValidator(each_once)] = Field(default_factory=dict)
    regions: RegionsSpec | None = None
    delays_ms: Annotated[Table | None, _cells("delays_ms")] = None
    round_trips_ms: Annotated[Table | None, _cells("round_trips_ms")] = None
    losses_percent: Annotated[Table | None, _cells("losses_percent")] = None
    rates: Rates = None
    shared: tuple[SharedSpec, ...] = ()
    stack: Stack = Field(default_factory=Stack)
    schedule: tuple[ScheduledChange, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"profile": value}
        if not isinstance(value, Mapping):
            return value
        given = dict(value)
        fields = [key for key in given if key in PROFILE_FIELDS]
        known = (*cls.model_fields, *_TABLES.values())
        if strange := [str(key) for key in given if key not in (*known, *fields)]:
            raise ValueError(
                f"unknown {', '.join(strange)}; allowed: {', '.join(known)}, and in place of profile its fields: "
                f"{', '.join(sorted(PROFILE_FIELDS))}"
            )
        if fields and given.get("profile") is not None:
            raise ValueError(
                f"profile and {', '.join(fields)} say twice what the links are: keep the profile, or give all of its "
                "fields in its place"
            )
        if fields:
            given["profile"] = {key: given.pop(key) for key in fields}
        for field, short in _TABLES.items():
            if short in given:
                if given.get(field) is not None:
                    raise ValueError(f"{short} and {field} say the same thing twice: keep one")
                given[field] = given.pop(short)
        _check_all_is_read(given)
        return given

    @model_validator(mode="after")
    def _given_once(self) -> LinksSpec:
        said = [name for name in ("regions", "delays_ms", "round_trips_ms") if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} say the same thing twice: keep one")
        if self.losses_percent is not None and self._delays is None:
            raise ValueError("losses_percent belongs to delays_ms, which is missing")
        if idle := idle_link_field(self.profile, self.nodes, self.edges, self.schedule):
            raise ValueError(idle)
        return self

    @cached_property
    def pairs(self) -> dict[tuple[int, int], LinkProfile]:
        """The single links that regions or matrices specify. Raises MatrixError."""
        if self.regions is not None:
            return region_edges(self.regions.nodes, self.regions.matrix)
        return matrix_edges(self._delays, self.losses_percent) if self._delays is not None else {}

    @property
    def _delays(self) -> Sequence[Sequence[float | None]] | None:
        """One-way delays by rank, ms."""
        return self.delays_ms if self.round_trips_ms is None else halved(self.round_trips_ms)

    @property
    def state(self) -> LinkState:
        """The links at the beginning of a run."""
        state = LinkState(profile=self.profile, nodes=self.nodes).at_edges(self.pairs)
        state = state.at_edges(rate_edges(self.rates or ())).at_edges(self.edges)
        return state.model_copy(update={"shared": tuple(each.link for each in self.shared)})

    def describe(self) -> str:
        """One phrase for tables, for example "demo-10mbit, node 2: 3g-slow"."""
        parts = [LinkState(profile=self.profile, nodes=self.nodes).at_edges(self.edges).describe()]
        if self.regions is not None:
            parts.append(f"{self.regions.matrix.name} regions {', '.join(dict.fromkeys(self.regions.nodes))}")
        elif self._delays is not None:
            parts.append("delays by pair")
        if self.rates is not None:
            parts.append("rates by pair")
        parts += [each.link.describe() for each in self.shared]
        if self.schedule:
            parts.append("changing: " + ", ".join(entry.what for entry in self.schedule))
        return ", ".join(parts)

    def over_time(self, world: int, last_s: float | None) -> tuple[LinkState, tuple[LinkChange, ...]]:
        """The initial links of a run of `world` nodes, and their changes; it ends after `last_s` (None: not known).

        Raises ValueError with the path of the invalid field.
        """
        self._check(world)
        until_s = None if last_s is None else last_s + _AFTER_S
        try:
            layers = [
                entry.layer(world, until_s, f"links.schedule.{number}") for number, entry in enumerate(self.schedule)
            ]
            links, moments = unrolled(self.state, layers)
        except ScheduleError as error:
            raise ValueError(str(error)) from None
        return links, tuple(LinkChange(moment.at_s, moment.links, moment.series) for moment in moments)

    def _check(self, world: int) -> None:
        """Raise ValueError for nodes that do not exist."""
        for field, ranks in self._named():
            if wrong := sorted(rank for rank in ranks if not 0 <= rank < world):
                raise ValueError(f"links.{field}: node {wrong[0]} does not exist: the nodes are 0 to {world - 1}")
        edges = [("edges", edge) for edge in self.edges]
        edges += [
            (f"schedule.{n}.edges", edge) for n, entry in enumerate(self.schedule) for edge in entry.edges or ()
        ]
        if looped := [(field, edge) for field, edge in edges if edge[0] == edge[1]]:
            field, (rank, _) = looped[0]
            raise ValueError(f"links.{field}: {rank}>{rank} is no link: it goes from a node to itself")
        sizes = {"regions.nodes": self.regions and len(self.regions.nodes), "delays_ms": len(self.delays_ms or ())}
        sizes |= {name: len(getattr(self, name) or ()) for name in ("round_trips_ms", "rates")}
        for field, size in sizes.items():
            if size and size != world:
                raise ValueError(f"links.{field}: is for {size} nodes, but the run has {world}")
        try:
            _ = self.pairs
        except MatrixError as error:
            raise ValueError(f"links.delays_ms: {error}") from None
        try:
            rate_edges(self.rates or ())
        except MatrixError as error:
            raise ValueError(f"links.rates: {error}") from None
        own = {edge for links in (self.pairs, self.edges) for edge, profile in links.items() if gives(profile)[0]}
        if idle := overridden_field(self.profile, self.nodes, self.schedule, own, world):
            raise ValueError(f"links.{idle}")

    def _named(self) -> Iterator[tuple[str, set[int]]]:
        """(field, ranks) of every field that names nodes."""
        yield "nodes", set(self.nodes)
        yield "edges", {rank for edge in self.edges for rank in edge}
        for number, each in enumerate(self.shared):
            yield f"shared.{number}", {rank for pair in each.pairs for rank in pair}
        for number, entry in enumerate(self.schedule):
            for field, ranks in entry.named():
                yield f"schedule.{number}.{field}", ranks


def unmodelled(links: LinkState) -> str:
    """The features that the virtual fabric does not model, in words; empty: none. A loss of 100% is a cut."""
    for profile in (links.profile, *links.nodes.values(), *links.edges.values()):
        loss_percent = profile.mean_loss_percent
        found = [f"loss {loss_percent:g}%"] if 0 < loss_percent < 100 else []
        found += ["jitter_order: reorder"] if profile.jitter_order == "reorder" else []
        for name in FATES:
            share = getattr(profile, name)
            found += [f"{name.removesuffix('_percent')} {share:g}%"] if share else []
        # There all that is sent to a node shares its downlink equally, as with a queue for each source.
        found += [f"queue {profile.queue}"] if profile.queue != "fifo" else []
        found += ["down_queue shared"] if profile.down_queue == "shared" else []
        if found:
            return f"{profile.name} has {' and '.join(found)}"
    return ""
