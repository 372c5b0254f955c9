"""The state of a network's links as a value: which profile applies where, and which links are cut. Pure.

Every change returns a new state, so that a sequence of changes can be worked out, compared and undone before anything
is applied. `gannet.netem.links.schedule` describes scheduled changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import inf
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gannet.netem.links.edge_profiles import gives
from gannet.netem.links.pairs.shared import SharedLink, shared_limits
from gannet.netem.links.plan import Edge, InterfacePlan, network_plan, packet_segments
from gannet.netem.links.profile import LinkProfile

# Descriptions of a state count links, and do not name them, when there are more than this.
_MOST_LINKS_NAMED = 8
# A node's uplink or downlink, by rank: one that holds what is sent, as in an outage.
Hold = tuple[int, str]
WAYS = ("down", "up")
# Nothing is shaped; the same as the shipped profile of that name.
UNSHAPED = LinkProfile(name="unshaped", source="none")


class LinkState(BaseModel):
    """`profile` for all nodes, replaced for single `nodes` and directed `edges`; `cut` edges carry nothing.

    An edge's profile replaces delay, jitter and loss of that directed link. `rates` are those links with a rate of
    their own, below the rates of their ends: that of the profile, with its buffer and nothing else of it.
    `shared`: bottlenecks that several links pass together; no change of profiles touches them.
    In `held`, (node, "up" or "down"), are the access links that pass nothing and keep what is sent in their buffers.
    `segments`: how many TCP segments a packet may hold, where rates change so often that this must not follow them
    (None: what the slowest rate allows, see gannet.netem.links.plan.packet_segments).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: LinkProfile = UNSHAPED
    nodes: dict[int, LinkProfile] = Field(default_factory=dict)
    edges: dict[Edge, LinkProfile] = Field(default_factory=dict)
    rates: dict[Edge, LinkProfile] = Field(default_factory=dict)
    shared: tuple[SharedLink, ...] = ()
    cut: frozenset[Edge] = frozenset()
    held: frozenset[Hold] = frozenset()
    segments: int | None = Field(default=None, ge=1)

    def profile_of(self, rank: int) -> LinkProfile:
        """The profile of that node's access link."""
        return self.nodes.get(rank, self.profile)

    def apply(
        self, profile: LinkProfile, nodes: Iterable[int] | None = None, edges: Iterable[Edge] | None = None
    ) -> LinkState:
        """The state with `profile` at these nodes and directed edges; with neither, everywhere. Cuts stay.

        A node that gets a profile gets its rates: it holds nothing any more.
        """
        at_nodes, at_edges = set(nodes or ()), set(edges or ())
        if not at_nodes and not at_edges:
            return LinkState(profile=profile, shared=self.shared, cut=self.cut, segments=self.segments)
        nodes = {**self.nodes, **dict.fromkeys(sorted(at_nodes), profile)}
        held = frozenset(hold for hold in self.held if hold[0] not in at_nodes)
        state = self.model_copy(update={"nodes": nodes, "held": held})
        return state.at_edges(dict.fromkeys(sorted(at_edges), profile))

    def at_edges(self, profiles: Mapping[Edge, LinkProfile]) -> LinkState:
        """The state in which each of these directed links is as its profile says; of what it does not say (see
        gannet.netem.links.edge_profiles) as before.
        """
        edges, rates = dict(self.edges), dict(self.rates)
        for edge, profile in profiles.items():
            figures, rate = gives(profile)
            if figures:
                edges[edge] = profile
            if rate and profile.path_bps is not None:
                rates[edge] = profile
            elif rate:
                rates.pop(edge, None)
        return self.model_copy(update={"edges": edges, "rates": rates})

    def partition(self, groups: Sequence[Iterable[int]], world: int) -> LinkState:
        """The state in which no link between two groups carries anything; earlier cuts are forgotten.

        The nodes that no group names are one more group. Raises ValueError when a node is named twice,
        does not exist, or when all nodes are in one group.
        """
        group_of: dict[int, int] = {}
        for number, group in enumerate(groups):
            for rank in group:
                if not 0 <= rank < world:
                    raise ValueError(f"the partition names node {rank}, but the nodes are 0 to {world - 1}")
                if rank in group_of:
                    raise ValueError(f"the partition names node {rank} twice")
                group_of[rank] = number
        sides = [group_of.get(rank, len(groups)) for rank in range(world)]
        if len(set(sides)) < 2:
            raise ValueError("the partition has all nodes on one side: write for example 0,1:2,3")
        cut = frozenset((a, b) for a in range(world) for b in range(world) if sides[a] != sides[b])
        return self.model_copy(update={"cut": cut})

    def heal(self) -> LinkState:
        """The state with no link cut; profiles stay."""
        return self.model_copy(update={"cut": frozenset()})

    def sever(self, edges: Iterable[Edge]) -> LinkState:
        """The state in which these directed links are cut too; earlier cuts stay."""
        return self.model_copy(update={"cut": self.cut | frozenset(edges)})

    def hold(self, held: frozenset[Hold]) -> LinkState:
        """The state in which these access links, and no others, hold what is sent."""
        return self if held == self.held else self.model_copy(update={"held": held})

    def isolate(self, nodes: Iterable[int], world: int) -> LinkState:
        """The state in which these nodes are cut off from all others, including one another; earlier cuts stay.

        Raises ValueError for a node that does not exist.
        """
        return self.sever(links_of(nodes, world))

    def plans(self, addresses: Sequence[str], devices: Sequence[str], seed: int) -> tuple[InterfacePlan, ...]:
        """The plans of all nodes' interfaces, by rank; a cut edge is a path that loses every packet.

        `addresses` and `devices`: each node's IPv4 address and shaped interface, by rank. Raises ValueError
        for nodes that do not exist and for edges from a node to itself.
        """
        world = len(addresses)
        for source, target in self.cut:
            if not (0 <= source < world and 0 <= target < world and source != target):
                raise ValueError(f"the cut {source}>{target} is no link between nodes 0 to {world - 1}")
        for a, b in (pair for link in self.shared for pair in link.pairs):
            if not (0 <= a < world and 0 <= b < world):
                raise ValueError(f"a shared link names {a}>{b}, but the nodes are 0 to {world - 1}")
        planned = network_plan(self.profile, self.nodes, self.edges, addresses, "any", seed, self.rates)
        ins, outs = shared_limits(self.shared, self.profile_of, addresses)
        most = packet_segments([link.rate_bps for link in self.shared], single=False)
        result = []
        for rank, plan in enumerate(planned):
            paths = dict(plan.paths)
            segments = plan.segments
            if self.segments is not None:
                counted = (plan.buffer_packets_up, *(limit.buffer_packets for limit in plan.limits.values()))
                single = plan.queue != "fifo" or any(packets is not None for packets in counted)
                segments = 1 if single or not all(path.is_whole for path in paths.values()) else self.segments
            for source in (source for source, target in self.cut if target == rank):
                paths[addresses[source]] = replace(paths[addresses[source]], loss_percent=100.0)
            up_held, down_held = ((rank, way) in self.held for way in ("up", "down"))
            changed = replace(
                plan,
                device=devices[rank],
                paths=paths,
                segments=min(segments, most),
                shared_in=ins[rank],
                shared_out=outs[rank],
                up_held=up_held,
                down_held=down_held,
            )
            result.append(changed)
        return tuple(result)

    def describe(self) -> str:
        """One phrase for tables, for example "demo-10mbit, node 2: 3g-slow, cut 0→1 1→0"."""
        parts = [self.profile.name]
        parts += [f"node {rank}: {profile.name}" for rank, profile in sorted(self.nodes.items())]
        named = {edge: self.edges.get(edge) or self.rates[edge] for edge in sorted({*self.edges, *self.rates})}
        links = [f"{a}→{b}: {self._words((a, b), profile)}" for (a, b), profile in named.items()]
        parts += links if len(links) <= _MOST_LINKS_NAMED else [f"{len(links)} links with figures of their own"]
        parts += [link.describe() for link in self.shared]
        if self.cut:
            parts.append(_describe_cut(self.cut))
        if self.held:
            parts.append(f"outage at node {','.join(map(str, sorted({rank for rank, _ in self.held})))}")
        return ", ".join(parts)

    def _words(self, edge: Edge, profile: LinkProfile) -> str:
        rate = self.rates.get(edge, profile)
        return profile.name if rate.name == profile.name else f"{profile.name}, {rate.name}"


def _describe_cut(cut: frozenset[Edge]) -> str:
    """The groups that a cut leaves, where it is a partition of the nodes it touches; else its edges."""
    ranks = sorted({rank for edge in cut for rank in edge})
    groups: list[list[int]] = []
    for rank in ranks:
        group = next((g for g in groups if (g[0], rank) not in cut and (rank, g[0]) not in cut), None)
        if group is None:
            groups.append([rank])
        else:
            group.append(rank)
    side = {rank: number for number, group in enumerate(groups) for rank in group}
    if cut == {(a, b) for a in ranks for b in ranks if side[a] != side[b]}:
        return "partition " + " | ".join(",".join(map(str, group)) for group in groups)
    return "cut " + " ".join(f"{a}→{b}" for a, b in sorted(cut))


def links_of(nodes: Iterable[int], world: int) -> frozenset[Edge]:
    """Every directed link from and to these nodes. Raises ValueError for a node that does not exist."""
    chosen = set(nodes)
    if wrong := sorted(rank for rank in chosen if not 0 <= rank < world):
        raise ValueError(f"node {wrong[0]} does not exist: the nodes are 0 to {world - 1}")
    return frozenset(
        edge for rank in chosen for other in range(world) if other != rank for edge in ((rank, other), (other, rank))
    )


Change = Callable[[LinkState], LinkState]


def difference(before: LinkState, after: LinkState) -> Change:
    """The change that turns `before` into `after`, and in any other state touches only what differs between the two.

    Where the profile of all nodes differs, nodes and edges are replaced as a whole, as LinkState.apply does.
    """
    ended, begun = before.cut - after.cut, after.cut - before.cut
    everywhere = before.profile != after.profile
    nodes, edges = _changed(before.nodes, after.nodes), _changed(before.edges, after.edges)
    rates = _changed(before.rates, after.rates)

    def change(state: LinkState) -> LinkState:
        return LinkState(
            profile=after.profile if everywhere else state.profile,
            nodes=after.nodes if everywhere else _merged(state.nodes, nodes),
            edges=after.edges if everywhere else _merged(state.edges, edges),
            rates=after.rates if everywhere else _merged(state.rates, rates),
            shared=after.shared if before.shared != after.shared else state.shared,
            cut=(state.cut - ended) | begun,
            held=(state.held - (before.held - after.held)) | (after.held - before.held),
            segments=after.segments,
        )

    return change


_Key = TypeVar("_Key")


def _changed(before: Mapping[_Key, LinkProfile], after: Mapping[_Key, LinkProfile]) -> dict[_Key, LinkProfile | None]:
    """The new values, where they differ; None: removed."""
    return {key: after.get(key) for key in {*before, *after} if before.get(key) != after.get(key)}


def _merged(old: Mapping[_Key, LinkProfile], changed: Mapping[_Key, LinkProfile | None]) -> dict[_Key, LinkProfile]:
    merged: dict[_Key, LinkProfile | None] = {**old, **changed}
    return {key: profile for key, profile in merged.items() if profile is not None}


@dataclass(eq=False)
class _Entry:
    """A change until a moment; `steps` are those that replace it later, the soonest last."""

    change: Change
    until_s: float
    steps: list[tuple[float, Change]]

    @property
    def next_s(self) -> float:
        return min(self.until_s, self.steps[-1][0] if self.steps else inf)


def _permanent(entries: Iterable[_Entry]) -> list[_Entry]:
    return [entry for entry in entries if entry.next_s == inf]


def _applied(entries: Iterable[_Entry], state: LinkState) -> LinkState:
    return reduce(lambda state, entry: entry.change(state), entries, state)


class Journal:
    """The changes made to a state, some of which end, or continue in steps, by themselves.

    When one ends, its changes are undone and later ones stay; likewise when its next step replaces it. Leaving out an
    earlier change must never make a later one fail.
    """

    def __init__(self, state: LinkState) -> None:
        self.state = state
        self._base = state
        self._entries: list[_Entry] = []

    def add(self, change: Change, until_s: float = inf, steps: Iterable[tuple[float, Change]] = ()) -> LinkState:
        """Add a change that ends at `until_s` (of any clock); returns the state with it.

        `steps`: (from when, by the same clock; the change that then replaces it), if it has several steps.
        """
        self.state = change(self.state)
        self._entries.append(_Entry(change, until_s, sorted(steps, key=lambda step: -step[0])))
        self._settle()
        return self.state

    def next_end_s(self) -> float:
        """When the next change ends or makes its next step; infinity when none does."""
        return min((entry.next_s for entry in self._entries), default=inf)

    def end_by(self, now_s: float) -> bool:
        """Undo the changes that end by `now_s`, and make the steps that are due. Returns whether there were any."""
        if self.next_end_s() > now_s:
            return False
        self._entries = [entry for entry in self._entries if entry.until_s > now_s]
        for entry in self._entries:
            while entry.steps and entry.steps[-1][0] <= now_s:
                entry.change = entry.steps.pop()[1]
        self._settle()
        self.state = _applied(self._entries, self._base)
        return True

    def drop_overridden(self) -> set[float]:
        """Forget the changes that permanent ones after them override: their ends would change nothing.

        Returns when they would have ended.
        """
        kept = list(self._entries)
        for entry in self._entries:
            changes = [entry.change, *(change for _, change in entry.steps)]
            if entry.until_s < inf and all(self._is_overridden(kept, entry, change) for change in changes):
                kept.remove(entry)
        dropped = {entry.until_s for entry in self._entries} - {entry.until_s for entry in kept}
        self._entries = kept
        self._settle()
        return dropped

    def _is_overridden(self, entries: Sequence[_Entry], entry: _Entry, change: Change) -> bool:
        """Whether the state is the same without this change, with and without the other temporary ones."""
        place = entries.index(entry)
        earlier, later = entries[:place], entries[place + 1 :]
        for before, after in product((earlier, _permanent(earlier)), (later, _permanent(later))):
            without = _applied(before, self._base)
            if _applied(after, without) != _applied(after, change(without)):
                return False
        return True

    def _settle(self) -> None:
        """Fold permanent changes into the base, up to the first that has an end or a step."""
        while self._entries and self._entries[0].next_s == inf:
            self._base = self._entries.pop(0).change(self._base)
