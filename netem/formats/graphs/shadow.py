"""Shadow's network graphs (GML): rates of hosts, one-way latencies, losses; packets take the fastest path."""

from __future__ import annotations

from math import log1p
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.gml import is_gml, names_of, read_gml
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of, rate_in_plan
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import SHADOW_BPS, TIMES_MS, number, quantity

name = "Shadow GML"
reads = ("nodes",)


def recognises(source: Source) -> bool:
    """Whether it is GML with latencies at its edges, or rates at its nodes."""
    marks = ("host_bandwidth_", " latency ", "packet_loss")
    return is_gml(source.head) and any(mark in source.text for mark in marks)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> Network:
    """The network between the chosen nodes; a node chosen twice stands for two hosts, joined by its loop.

    Latencies are one way. Along a path they add up, and losses p combine as 1 − ∏(1 − p); of paths of one latency
    the one that loses less counts (Shadow, network_graph_spec). Raises FormatError.
    """
    graph = read_gml(text)
    ids, names = names_of(graph)
    index = {node: place for place, node in enumerate(ids)}
    edges: dict[tuple[int, int], Link] = {}
    jittered = 0
    for a, b, data in graph.edges(data=True):
        link = _link(f"{names[index[a]]}–{names[index[b]]}", data)
        jittered += bool(data.get("jitter")) and data.get("jitter") not in ("0 ms", "0 us", "0 ns", 0)
        for pair in {(index[a], index[b])} | (set() if graph.is_directed() else {(index[b], index[a])}):
            if pair not in edges or _cost(link) < _cost(edges[pair]):
                edges[pair] = link
    described = Graph(names, range(len(names)), {pair: link for pair, link in edges.items() if pair[0] != pair[1]})
    taken = choose(described, nodes, repeats=True)
    ends = list(dict.fromkeys(taken))
    at = {end: place for place, end in enumerate(ends)}
    between = shortest(described, ends, _cost)

    def route(a: int, b: int) -> list[Link] | None:
        if taken[a] != taken[b]:
            return between(at[taken[a]], at[taken[b]])
        if (taken[a], taken[a]) not in edges:
            raise FormatError(
                f"{names[taken[a]]} is named twice, and has no edge to itself that says how far two hosts there "
                "are apart"
            )
        return [edges[taken[a], taken[a]]]

    network = network_of([names[n] for n in taken], route)
    for place, node in enumerate(taken):
        network.up_bps[place] = _rate(graph.nodes[ids[node]], "host_bandwidth_up", names[node])
        network.down_bps[place] = _rate(graph.nodes[ids[node]], "host_bandwidth_down", names[node])
    longer = [
        (a, b)
        for (a, b), pair in network.pairs.items()
        if a < b and (edge := described.edges.get((taken[a], taken[b]))) and edge.delay_ms > pair.delay_ms + 1e-9
    ]
    count = len(taken) * (len(taken) - 1) // 2
    network.facts += [
        f"{counted(len(names), 'node')} and {counted(graph.number_of_edges(), 'edge')}, {len(taken)} of the nodes "
        "taken",
        f"latencies are one way, along the path of least latency; in {len(longer)} of {counted(count, 'pair')} it "
        "is shorter than their own edge",
    ]
    if jittered:
        network.dropped.append(f"jitter of {counted(jittered, 'edge')}, which Shadow does not apply either")
    return network


def _cost(link: Link) -> float:
    """Latency, and of equal ones the loss: up to 50 · 10⁻⁷ ms, while Shadow counts in ns."""
    return link.delay_ms + 1e-7 * (-log1p(-link.loss) if link.loss < 1 else 50.0)


def _link(name: str, data: dict[str, Any]) -> Link:
    if "latency" not in data:
        raise FormatError(f"{name}: the edge has no latency")
    delay_ms = quantity(data["latency"], TIMES_MS, f"{name}: latency")
    return Link(name, delay_ms, loss=number(data.get("packet_loss", 0.0), f"{name}: packet_loss"))


def _rate(data: dict[str, Any], field: str, name: str) -> int | None:
    return rate_in_plan(quantity(data[field], SHADOW_BPS, f"{name}: {field}")) if field in data else None
