"""MiniEdit's topologies (JSON, .mn): Mininet's hosts, switches and links, with bw in Mbit/s, delays and losses."""

from __future__ import annotations

from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import TIMES_MS, number, quantity
from gannet.netem.links.yaml_files import short

name = "MiniEdit JSON"
reads = ("nodes",)


def is_topology(data: Any) -> bool:
    """Whether this is a topology of MiniEdit."""
    return isinstance(data, dict) and all(isinstance(data.get(name), list) for name in ("hosts", "switches", "links"))


def recognises(source: Source) -> bool:
    """Whether it is JSON with hosts, switches and links."""
    return source.is_json and '"switches"' in source.head and is_topology(source.json)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.json, options.nodes))


def parse(data: Any, nodes: Nodes = None) -> Network:
    """The network between the chosen hosts, over the fewest links. Raises FormatError.

    Mininet applies a link's options at both ends to what leaves there: each direction has them once.
    """
    if not is_topology(data):
        raise FormatError("an object with lists of hosts, switches and links was expected")
    names: list[str] = []
    for kind in ("hosts", "switches"):
        for place, each in enumerate(data[kind]):
            options = each.get("opts") if isinstance(each, dict) else None
            name = options.get("hostname") if isinstance(options, dict) else None
            if not isinstance(name, str) or name in names:
                raise FormatError(f"{kind}, number {place}: hostname {short(name)} is missing or double")
            names.append(name)
    edges: dict[tuple[int, int], Link] = {}
    for place, each in enumerate(data["links"]):
        ends = [each.get(end) for end in ("src", "dest")] if isinstance(each, dict) else [None]
        if unknown := [end for end in ends if end not in names]:
            raise FormatError(f"links, number {place}: {short(unknown[0])} is neither a host nor a switch")
        a, b = (names.index(str(end)) for end in ends)
        options = each.get("opts") if isinstance(each.get("opts"), dict) else {}
        edges[a, b], edges[b, a] = (_link(f"{names[x]}→{names[y]}", options) for x, y in ((a, b), (b, a)))
    graph = Graph(names, range(len(data["hosts"])), edges)
    taken = choose(graph, nodes)
    far = 1.0 + sum(link.delay_ms for link in edges.values())
    between = shortest(graph, taken, lambda link: far + link.delay_ms)
    network = network_of([names[node] for node in taken], between, distribution="uniform")
    network.facts += [
        f"{counted(len(data['hosts']), 'host')} and {counted(len(data['links']), 'link')}, {len(taken)} of the "
        "hosts taken",
        "delays are one way: Mininet applies them at both ends to what leaves there; packets take the fewest links",
    ]
    if queues := sum(
        isinstance(each.get("opts"), dict) and "max_queue_size" in each["opts"] for each in data["links"]
    ):
        network.dropped.append(f"queues of {counted(queues, 'link')} (max_queue_size)")
    return network


def _link(name: str, options: dict[str, Any]) -> Link:
    bw = options.get("bw")
    return Link(
        name,
        quantity(options.get("delay") or "0ms", TIMES_MS, f"{name}: delay", bare=1e-3),  # tc's: a bare number is µs
        None if bw in (None, "") else number(bw, f"{name}: bw") * 1e6,
        number(options.get("loss") or 0, f"{name}: loss") / 100,
        quantity(options.get("jitter") or "0ms", TIMES_MS, f"{name}: jitter", bare=1e-3),
    )
