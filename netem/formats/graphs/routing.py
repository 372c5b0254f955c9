"""Shortest routes over the graph that a file describes, and the choice of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from gannet.netem.formats.base import FormatError, Nodes
from gannet.netem.formats.graphs.network import Link
from gannet.netem.links.matrix_files import MOST_NODES
from gannet.netem.links.yaml_files import short

LARGEST = "largest"


@dataclass(frozen=True)
class Graph:
    """`names` of all vertices; `hosts`, those that may be nodes of a run; directed `edges` between vertices."""

    names: Sequence[str]
    hosts: Sequence[int]
    edges: Mapping[tuple[int, int], Link]

    def matrix(self, cost: Callable[[Link], float]) -> Any:
        """Costs as a sparse matrix; of two routes that cost alike the one with fewer links is the cheaper one."""
        sources = np.array([a for a, _ in self.edges], dtype=np.int64)
        targets = np.array([b for _, b in self.edges], dtype=np.int64)
        costs = np.array([cost(link) for link in self.edges.values()], dtype=np.float64)
        hop = max(float(costs.max(initial=0.0)), 1e-9) * 1e-13  # less than any difference that is meant
        return csr_array((costs + hop, (sources, targets)), shape=(len(self.names), len(self.names)))

    def parts(self) -> list[list[int]]:
        """The hosts that can all reach each other, the largest set first."""
        _, part_of = connected_components(self.matrix(lambda _: 1.0), directed=True, connection="strong")
        found: dict[int, list[int]] = {}
        for host in self.hosts:
            found.setdefault(int(part_of[host]), []).append(host)
        return sorted(found.values(), key=len, reverse=True)


def choose(graph: Graph, nodes: Nodes, repeats: bool = False) -> list[int]:
    """The vertices that become nodes. Raises FormatError for more than a run can have, or than there are.

    `repeats`: one may be taken twice.
    """
    hosts = list(graph.parts()[0]) if nodes == LARGEST else list(graph.hosts)
    if isinstance(nodes, int):
        hosts = hosts[: _checked(nodes, len(hosts))]
    elif nodes is not None and not isinstance(nodes, str):
        named = [graph.names[host] for host in hosts]
        hosts = [hosts[index_of(named, name)] for name in nodes]
        if not repeats and len(set(hosts)) < len(hosts):
            double = next(host for host in hosts if hosts.count(host) > 1)
            raise FormatError(f"--nodes names {short(graph.names[double])} twice")
    check_count(len(hosts))
    return hosts


def _checked(wanted: int, there: int) -> int:
    if not 2 <= wanted <= there:
        raise FormatError(f"--nodes {wanted}: the file has {there:,} nodes, so take 2 to {there:,}")
    return wanted


def check_count(count: int) -> None:
    """Raise FormatError for fewer nodes than a network has, or more than a run can have."""
    if count > MOST_NODES:
        raise FormatError(
            f"{count:,} nodes, {count - MOST_NODES:,} more than the {MOST_NODES:,} that a run can have: take the "
            f"first ones with --nodes {MOST_NODES}, or name those that you want with --nodes A,B,…"
        )
    if count < 2:
        raise FormatError(f"{count} node{'s' * (count != 1)}: a network has two at least")


def index_of(names: Sequence[str], name: str) -> int:
    """The place of a node that is given by its name or its number. Raises FormatError."""
    if name in names:
        return names.index(name)
    if name.isdecimal() and len(name) < 6 and int(name) < len(names):
        return int(name)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {short(close[0])}? " if close else ""
    known = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    raise FormatError(f"the file has no node {short(name)}: {hint}known: {known}")


def shortest(
    graph: Graph, ends: Sequence[int], cost: Callable[[Link], float], apart: bool = False
) -> Callable[[int, int], list[Link] | None]:
    """The route from ends[a] to ends[b] with the least sum of costs, which are 0 or more.

    Raises FormatError, with what to do, where two ends are not connected; with `apart` their route is None.
    """
    distances, before = dijkstra(graph.matrix(cost), indices=list(ends), return_predecessors=True)
    if not apart and not np.isfinite(distances[:, list(ends)]).all():
        _refuse_parts(graph, ends)

    def route(a: int, b: int) -> list[Link] | None:
        if not np.isfinite(distances[a, ends[b]]):
            return None
        links: list[Link] = []
        at = ends[b]
        while at != ends[a]:
            previous = int(before[a, at])
            links.append(graph.edges[previous, at])
            at = previous
        return links[::-1]

    return route


def _refuse_parts(graph: Graph, ends: Sequence[int]) -> None:
    parts = [kept for part in graph.parts() if (kept := [end for end in part if end in set(ends)])]
    alone = ", ".join(graph.names[part[0]] for part in parts[1:4])
    raise FormatError(
        f"not connected: {len(parts)} parts of "
        f"{', '.join(str(len(part)) for part in parts[:8])}{' …' * (len(parts) > 8)} nodes; {alone} cannot reach "
        f"{graph.names[parts[0][0]]} and back: take the largest part with --nodes {LARGEST}, or name nodes of one "
        "part"
    )
