"""SNDlib's networks (XML): x is the longitude and y the latitude, capacities are in Mbit/s."""

from __future__ import annotations

from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.geography import RULE, Place, check_place, delay_ms, place_all
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import number
from gannet.netem.formats.graphs.xml_files import needed, read_xml
from gannet.netem.links.yaml_files import short

name = "SNDlib XML"
reads = ("nodes",)


def recognises(source: Source) -> bool:
    """Whether it is XML with the structure of a network."""
    return source.is_xml and ("<networkStructure" in source.head or "sndlib.zib.de" in source.head)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> Network:
    """The network between the chosen nodes. Raises FormatError."""
    root = read_xml(text)
    listed = list(root.iter("node"))
    names = [needed(node, "id") for node in listed]
    if len(set(names)) < len(names):
        raise FormatError("two nodes have one id")
    index = {name: place for place, name in enumerate(names)}
    if any(each.get("coordinatesType", "geographical") != "geographical" for each in root.iter("nodes")):
        raise FormatError("coordinates in pixels, not degrees: the delays of links cannot be told from them")
    given: dict[int, Place] = {}
    for name, node in zip(names, listed, strict=True):
        longitude, latitude = (node.findtext(f"coordinates/{axis}") for axis in "xy")
        if longitude is not None and latitude is not None:
            place = number(latitude.strip(), f"{name}: y"), number(longitude.strip(), f"{name}: x")
            given[index[name]] = check_place(name, place)
    pairs: dict[tuple[int, int], list[float | None]] = {}
    modules = 0
    for link in root.iter("link"):
        a, b = (_end(link, end, index) for end in ("source", "target"))
        capacity, from_module = _capacity(link)
        modules += from_module
        if a != b:
            pairs.setdefault((min(a, b), max(a, b)), []).append(capacity)
    near: dict[int, list[int]] = {}
    for a, b in pairs:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    places, guessed = place_all(given, near, names)
    edges: dict[tuple[int, int], Link] = {}
    for (a, b), capacities in pairs.items():
        known = [each for each in capacities if each is not None]
        rate = sum(known) * 1e6 if len(known) == len(capacities) else None
        link_ = (f"{names[a]}–{names[b]}", delay_ms(places[a], places[b]), rate)
        edges[a, b], edges[b, a] = Link(*link_), Link(*link_)
    described = Graph(names, range(len(names)), edges)
    taken = choose(described, nodes)
    network = network_of([names[node] for node in taken], shortest(described, taken, lambda link: link.delay_ms))
    count = sum(map(len, pairs.values()))
    network.facts += [
        f"{counted(len(names), 'node')} and {counted(count, 'link')}, {len(taken)} of the nodes taken",
        RULE + ", along the shortest path",
        "capacities are in Mbit/s, and each direction has the whole",
    ]
    if guessed:
        network.facts.append(
            f"assumed: {counted(len(guessed), 'node')} without coordinates lie in the middle of their neighbours"
        )
    if modules:
        network.facts.append(
            f"assumed: {counted(modules, 'link')} with no capacity installed have the least of their modules, "
            "which are to be bought"
        )
    if unknown := sum(each is None for capacities in pairs.values() for each in capacities):
        network.dropped.append(f"{counted(unknown, 'link')} of no capacity: they limit nothing")
    if demands := [
        number((each.findtext("demandValue") or "0").strip(), "demandValue") for each in root.iter("demand")
    ]:
        network.dropped.append(
            f"{counted(len(demands), 'demand')} of {sum(demands):g} Mbit/s in all: traffic, not links"
        )
    return network


def _end(link: Any, end: str, index: dict[str, int]) -> int:
    name = (link.findtext(end) or "").strip()
    if name not in index:
        raise FormatError(f"link {short(link.get('id'))}: its {end} {short(name)} is no node")
    return index[name]


def _capacity(link: Any) -> tuple[float | None, bool]:
    """Mbit/s, None: none is said; and whether it is that of the least module."""
    name = f"link {link.get('id')}: capacity"
    if (text := link.findtext("preInstalledModule/capacity")) is not None and number(text.strip(), name) > 0:
        return number(text.strip(), name), False
    modules = [
        number((each.text or "").strip(), name) for each in link.iterfind("additionalModules/addModule/capacity")
    ]
    least = min((each for each in modules if each > 0), default=None)
    return least, least is not None
