"""CORE's scenarios (XML): devices, networks, and links with delay and jitter in µs, bit/s, and per cent."""

from __future__ import annotations

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import number
from gannet.netem.formats.graphs.xml_files import needed, read_xml
from gannet.netem.links.yaml_files import short

name = "CORE XML"
reads = ("nodes",)

_ROUTERS = ("router", "mdr", "prouter")
_WIRELESS = ("WIRELESS_LAN", "WIRELESS", "EMANE")


def recognises(source: Source) -> bool:
    """Whether it is XML of a scenario."""
    return source.is_xml and "<scenario" in source.head


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> Network:
    """The network between the chosen devices: those that are no routers, where there are two, else all.

    Packets take the way over the fewest links, and of these that of the least delay. Raises FormatError.
    """
    root = read_xml(text)
    devices = [
        (needed(each, "id"), each.get("name") or needed(each, "id"), each.get("type") or "")
        for each in root.iterfind("devices/device")
    ]
    networks = [
        (needed(each, "id"), each.get("name") or needed(each, "id"), each.get("type", ""))
        for each in root.iterfind("networks/network")
    ]
    vertices = [*devices, *networks]
    index = {key: place for place, (key, _, _) in enumerate(vertices)}
    if len(index) < len(vertices):
        raise FormatError("two devices or networks have one id")
    titles = [name for _, name, _ in vertices]
    names = [f"{name} ({key})" if titles.count(name) > 1 else name for key, name, _ in vertices]
    edges: dict[tuple[int, int], Link] = {}
    correlated = odd = 0
    links = list(root.iterfind("links/link"))
    for element in links:
        ends = [element.get(new, element.get(old)) for new, old in (("node1", "node_one"), ("node2", "node_two"))]
        if unknown := [end for end in ends if end not in index]:
            raise FormatError(f"a link ends at node {short(unknown[0])}, which does not exist")
        a, b = (index[str(end)] for end in ends)
        options = element.find("options")
        given: dict[str, str] = dict(options.attrib) if options is not None else {}
        link = _link(f"{names[a]}→{names[b]}", given)
        correlated += link.jitter_ms > 0
        odd += any(given.get(name, "0") not in ("0", "0.0", "") for name in ("buffer", "mer", "burst", "mburst"))
        edges[a, b] = link
        if given.get("unidirectional", "0") not in ("1", "True", "true"):
            edges[b, a] = _link(f"{names[b]}→{names[a]}", given)
    plain = [place for place, (_, _, kind) in enumerate(devices) if kind not in _ROUTERS]
    hosts = plain if len(plain) > 1 else list(range(len(devices)))
    graph = Graph(names, hosts, edges)
    taken = choose(graph, nodes)
    far = 1.0 + sum(link.delay_ms for link in edges.values())  # one link more is worse than any delay
    between = shortest(graph, taken, lambda link: far + link.delay_ms)
    network = network_of([names[node] for node in taken], between, distribution="uniform")
    network.facts += [
        f"{counted(len(devices), 'device')}, {counted(len(networks), 'network')} and "
        f"{counted(len(links), 'link')}, {len(taken)} of the devices taken"
        + (" (no routers)" if hosts == plain and len(plain) < len(devices) else ""),
        "delays are one way, in µs; packets take the fewest links",
    ]
    if wireless := [name for _, name, kind in networks if kind in _WIRELESS]:
        network.dropped.append(
            f"the radio of {', '.join(wireless[:4])}, its range and mobility: its links are as given"
        )
    if correlated:
        network.dropped.append(f"the correlation of 25% that CORE gives jitter, of {counted(correlated, 'link')}")
    if odd:
        network.dropped.append(f"buffers and bursts of {counted(odd, 'link')}")
    return network


def _link(name: str, given: dict[str, str]) -> Link:
    def figure(*fields: str) -> float:
        text = next((value for field in fields if (value := given.get(field))), "0")
        return number(text, f"{name}: {fields[0]}")

    return Link(
        name,
        figure("delay") / 1e3,
        figure("bandwidth") or None,
        figure("loss", "per") / 100,
        figure("jitter") / 1e3,
        figure("dup") / 100,
    )
