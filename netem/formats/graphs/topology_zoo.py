"""The Internet Topology Zoo's graphs, GraphML or GML: coordinates of nodes, and speeds of some links in bit/s."""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.geography import RULE, Place, check_place, delay_ms, place_all
from gannet.netem.formats.graphs.gml import is_gml, names_of, read_gml
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import number
from gannet.netem.formats.graphs.xml_files import read_xml
from gannet.netem.links.yaml_files import printable

name = "Topology Zoo GraphML and GML"
reads = ("nodes",)


def recognises(source: Source) -> bool:
    """Whether it is GraphML, or GML that no other format claims."""
    return is_gml(source.head) or (source.is_xml and "<graphml" in source.head)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> Network:
    """The network between the chosen nodes, GML or GraphML. Raises FormatError."""
    graph = read_graphml(text) if text.lstrip("\ufeff \t\r\n").startswith("<") else read_gml(text)
    ids, names = names_of(graph)
    index = {node: place for place, node in enumerate(ids)}
    near: dict[int, list[int]] = {}
    for a, b in graph.edges():
        near.setdefault(index[a], []).append(index[b])
        near.setdefault(index[b], []).append(index[a])
    places, guessed = place_all(_coordinates(graph, index, names), near, names)
    speeds, parallel = _speeds(graph, index, names)
    edges: dict[tuple[int, int], Link] = {}
    for (a, b), speed in speeds.items():
        link = (f"{names[a]}–{names[b]}", delay_ms(places[a], places[b]), speed)
        edges[a, b] = Link(*link)
        if not graph.is_directed():
            edges[b, a] = Link(*link)
    described = Graph(names, range(len(names)), edges)
    taken = choose(described, nodes)
    network = network_of([names[node] for node in taken], shortest(described, taken, lambda link: link.delay_ms))
    unknown = sum(speed is None for speed in speeds.values())
    network.facts += [
        f"{counted(len(names), 'node')} and {counted(graph.number_of_edges(), 'link')}, {len(taken)} of the nodes "
        "taken",
        RULE + ", along the shortest path",
        f"{len(speeds) - unknown} of {counted(len(speeds), 'pair')} of neighbours have a speed (LinkSpeedRaw, bit/s)",
    ]
    if guessed:
        listed = ", ".join(names[node] for node in guessed[:4]) + " …" * (len(guessed) > 4)
        network.facts.append(
            f"assumed: {counted(len(guessed), 'node')} without coordinates ({listed}) lie in the middle of their "
            "neighbours"
        )
    if parallel:
        network.facts.append(f"{parallel} parallel links: the speeds of links between the same two nodes add up")
    if unknown:
        network.dropped.append(
            f"nothing is known of the speed of {unknown} of {counted(len(speeds), 'link')}: they limit nothing"
        )
    return network


def read_graphml(text: str) -> Any:
    """The graph of a GraphML file, as networkx reads it. Raises FormatError."""
    read_xml(text)  # refuses entities, which networkx's own parser would expand
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "No key type for id d1. Using string": numbers are checked when read
            graph = nx.parse_graphml(text)
    # Odd files raise many kinds: NetworkXError, KeyError for an unknown key, ValueError for a number that is none.
    except Exception as error:
        raise FormatError(f"not GraphML: {printable(error)[:200]}") from None
    if len(graph) < 2:
        raise FormatError(f"a graph of {len(graph)} nodes: a network has two at least")
    return graph


def _coordinates(graph: Any, index: dict[Any, int], names: list[str]) -> dict[int, Place]:
    places = {}
    for node, data in graph.nodes(data=True):
        latitude, longitude = data.get("Latitude"), data.get("Longitude")
        if latitude is not None and longitude is not None:
            name = names[index[node]]
            pair = number(latitude, f"{name}: Latitude"), number(longitude, f"{name}: Longitude")
            places[index[node]] = check_place(name, pair)
    return places


def _speeds(graph: Any, index: dict[Any, int], names: list[str]) -> tuple[dict[tuple[int, int], float | None], int]:
    """Bit/s of each two neighbours (None: unknown, also of one of parallel links); how many links are parallel."""
    speeds: dict[tuple[int, int], float | None] = {}
    parallel = 0
    for a, b, data in graph.edges(data=True):
        pair = index[a], index[b]
        if pair[0] == pair[1]:
            continue
        if not graph.is_directed() and pair[::-1] in speeds:
            pair = pair[::-1]
        raw = data.get("LinkSpeedRaw")
        speed = number(raw, f"{names[pair[0]]}–{names[pair[1]]}: LinkSpeedRaw") if raw not in (None, "") else None
        if pair in speeds:
            parallel += 1
            known = speeds[pair]
            speed = None if known is None or speed is None else known + speed
        speeds[pair] = speed
    return speeds, parallel
