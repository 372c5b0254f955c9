"""SimGrid's platforms (XML): hosts, links, and the routes that the file gives, in zones and clusters."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.events import with_events
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, links_mapping, network_of
from gannet.netem.formats.graphs.routing import Graph, choose
from gannet.netem.formats.graphs.simgrid_profiles import UNTIL_S, LinkProfiles, read_profiles
from gannet.netem.formats.graphs.simgrid_zones import Platform, read_platform
from gannet.netem.formats.graphs.units import SIMGRID_MS, quantity, simgrid_bps
from gannet.netem.formats.graphs.xml_files import read_xml

name = "SimGrid XML"
reads = ("nodes",)


def recognises(source: Source) -> bool:
    """Whether it is XML of a platform."""
    return source.is_xml and ("<platform" in source.head or "simgrid.dtd" in source.head)


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, *parse(source.text, options.nodes, source.path.parent))


def parse(text: str, nodes: Nodes = None, folder: Path | None = None) -> tuple[Network, dict[str, Any]]:
    """The network between the chosen hosts, and its `links:` with the changes that profiles make.

    Profiles are read from `folder`. Latencies are one way; "MBps" is 10^6 bytes a second. Raises FormatError.
    """
    root = read_xml(text)
    platform = read_platform(root)
    profiles = read_profiles(root, platform.links, folder)
    described = Graph(platform.hosts, range(len(platform.hosts)), {})
    if nodes == "largest":
        raise FormatError("--nodes largest: a platform gives its routes, so name its hosts instead")
    taken = choose(described, nodes)
    names = [platform.hosts[host] for host in taken]
    routes: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for a, source in enumerate(names):
        for b, target in enumerate(names):
            if a != b:
                routes[a, b] = platform.route(source, target)
    times = profiles.times()

    def at(seconds: float) -> Network:
        links = {key: _link(platform, key, profiles, seconds) for keys in routes.values() for key in keys}
        return network_of(names, _through(routes, links), access=not times)

    network = at(0.0)
    mapping = with_events([(0.0, network), *((t, at(t)) for t in times)]) if times else links_mapping(network)
    network.facts += [
        f"{counted(len(platform.hosts), 'host')} and {counted(len(platform.links), 'link')}, {len(taken)} of the "
        "hosts taken",
        "latencies are one way, along the routes that the file gives; MBps are 10^6 bytes a second, Mbps bits",
        "the factors of SimGrid's model LV08 (latency times 13.01, bandwidth times 0.97) are not applied",
    ]
    inner = {each.name for each in network.shared if each.both_ways}
    both = [
        name
        for name, link in platform.links.items()
        if link.get("sharing_policy", "SHARED") == "SHARED" and name not in inner
    ]
    if both:
        network.dropped.append(
            f"that both directions of {counted(len(both), 'link')} share one rate (SHARED, or no policy): here "
            "each has the whole"
        )
    if profiles.loops:
        network.dropped.append(
            f"{counted(profiles.loops, 'profile')} that repeat without end: their changes until "
            f"{min(UNTIL_S, max(times, default=0)):g} "
            "s are in the schedule"
        )
    network.dropped += platform.dropped + profiles.dropped
    return network, mapping


def _through(
    routes: dict[tuple[int, int], list[tuple[str, str]]], links: dict[tuple[str, str], Link]
) -> Callable[[int, int], list[Link]]:
    return lambda a, b: [links[key] for key in routes[a, b]]


def _link(platform: Platform, key: tuple[str, str], profiles: LinkProfiles, at_s: float) -> Link:
    name, direction = key
    given = platform.links[name]
    bandwidth_bps = profiles.bandwidth_bps(name, at_s)
    latency_ms = profiles.latency_ms(name, at_s)
    if bandwidth_bps is None:
        bandwidth_bps = simgrid_bps(given.get("bandwidth"), f"link {name}: bandwidth")
    if latency_ms is None:
        latency_ms = quantity(given.get("latency", "0s"), SIMGRID_MS, f"link {name}: latency", bare=1e3)
    return Link(
        f"{name} {direction}".strip(),
        latency_ms,
        bandwidth_bps if bandwidth_bps < inf else None,
        loss=0.0 if profiles.is_on(name, at_s) else 1.0,
        shared=given.get("sharing_policy", "SHARED") != "FATPIPE",
    )
