"""The underlays of cross-silo federated learning (GML; gaia, amazon_us, geant, ebone, exodus): km, and bit/s.

The rules are those of their paper's own program (Marfoq, Xu, Neglia, Vidal: Throughput-Optimal Topology Design for
Cross-Silo Federated Learning, 2020): the path of least distance; 0.0085 ms a km and 4 ms for the whole path; and a
rate of the default capacity of a link, 1 Gbit/s, divided by the number of links. The file's capacities are not read.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gannet.netem.formats.base import Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.gml import is_gml, names_of, read_gml
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import number

name = "cross-silo underlay GML"
reads = ("nodes",)

MS_PER_KM, MS_PER_PATH, CAPACITY_BPS = 0.0085, 4.0, 10**9


def recognises(source: Source) -> bool:
    """Whether it is GML with distances at its edges, and without coordinates."""
    return is_gml(source.head) and " distance " in source.text and not re.search("Latitude|Longitude", source.text)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> Network:
    """The network between the chosen silos. Raises FormatError."""
    graph = read_gml(text)
    ids, names = names_of(graph)
    index = {node: place for place, node in enumerate(ids)}
    edges: dict[tuple[int, int], Link] = {}
    capacities: list[float] = []
    for a, b, data in graph.edges(data=True):
        name = f"{names[index[a]]}–{names[index[b]]}"
        link = Link(name, number(data.get("distance"), f"{name}: distance"))  # km, until the path is known
        if "capacity" in data:
            capacities.append(number(data["capacity"], f"{name}: capacity"))
        for pair in ((index[a], index[b]), (index[b], index[a])):
            if pair[0] != pair[1] and (pair not in edges or link.delay_ms < edges[pair].delay_ms):
                edges[pair] = link
    described = Graph(names, range(len(names)), edges)
    taken = choose(described, nodes)
    between = shortest(described, taken, lambda link: link.delay_ms)
    network = network_of([names[node] for node in taken], between)
    hops = {(a, b): len(between(a, b) or ()) for a, b in network.pairs}
    for pair, each in network.pairs.items():
        network.pairs[pair] = replace(
            each, delay_ms=MS_PER_KM * each.delay_ms + MS_PER_PATH, rate_bps=CAPACITY_BPS // hops[pair]
        )
    network.facts += [
        f"{counted(len(names), 'silo')} and {counted(graph.number_of_edges(), 'link')}, {len(taken)} of the silos "
        "taken",
        f"delays are one way: {MS_PER_KM} ms a km along the path of least distance, and {MS_PER_PATH:g} ms",
        f"a rate for each pair: {CAPACITY_BPS / 1e9:g} Gbit/s (the paper's default) divided by the links of its "
        f"path, of 1 to {max(hops.values())}",
    ]
    if capacities:
        network.dropped.append(
            f"capacities of {len(capacities)} of {counted(graph.number_of_edges(), 'link')} "
            f"({min(capacities) / 1e6:g} to {max(capacities) / 1e6:g} Mbit/s), which the paper's program does not "
            "read either"
        )
    return network
