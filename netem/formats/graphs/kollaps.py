"""Kollaps' experiments (XML): services, bridges, links with one-way latencies in ms, and events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options, Source, check_unasked
from gannet.netem.formats.graphs.events import with_events
from gannet.netem.formats.graphs.network import Link, Network, counted, imported, links_mapping, network_of
from gannet.netem.formats.graphs.routing import Graph, choose, shortest
from gannet.netem.formats.graphs.units import BITS_BPS, TIMES_MS, number, quantity
from gannet.netem.formats.graphs.xml_files import needed, read_xml
from gannet.netem.links.yaml_files import short

name = "Kollaps XML"
reads = ("nodes",)

_MOST_REPLICAS = 2_000
_LATER = ("latency", "upload", "download", "jitter", "drop")


@dataclass
class _Links:
    """Directed links between services and bridges, as attributes; `away`: those that an event has taken down."""

    given: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    away: set[tuple[str, str]] = field(default_factory=set)


def recognises(source: Source) -> bool:
    """Whether it is XML of an experiment."""
    return source.is_xml and "<experiment" in source.head


def read(source: Source, options: Options) -> Imported:
    """The network between the chosen nodes. Raises FormatError."""
    check_unasked(options)
    return imported(name, *parse(source.text, options.nodes))


def parse(text: str, nodes: Nodes = None) -> tuple[Network, dict[str, Any]]:
    """The network between the chosen services (all but supervisors) at the beginning, and its `links:` with changes.

    Latencies are one way; squares of jitters (standard deviations) add up along the path of least latency.
    Raises FormatError.
    """
    root = read_xml(text)
    replicas = _replicas(root)
    names = _ends(root, replicas)
    if len(set(names)) < len(names):
        raise FormatError("two services or bridges have one name")
    links = _Links()
    for element in root.iterfind("links/link"):
        _add(links, names, element)
    host_names = [host for hosts in replicas.values() for host in hosts]
    vertices = [*host_names, *(name for name in names if name not in replicas)]
    events, isolated, dropped = _events(root, replicas, links)
    for change in events.pop(0.0, ()):
        _apply(links, change)
    taken = choose(_graph(vertices, len(host_names), replicas, links), nodes)

    def now(apart: bool) -> Network:
        graph = _graph(vertices, len(host_names), replicas, links)
        between = shortest(graph, taken, lambda link: link.delay_ms, apart)
        return network_of([vertices[vertex] for vertex in taken], between, access=not events)

    network = now(apart=False)
    states = [(0.0, network)]
    for at_s in sorted(events):
        for change in events[at_s]:
            _apply(links, change)
        states.append((at_s, now(apart=True)))
    mapping = with_events(states) if events else links_mapping(network)
    left = [
        (at_s, for_s, [place for place, vertex in enumerate(taken) if vertices[vertex] in hosts])
        for at_s, for_s, hosts in isolated
    ]
    entries = [
        {"at_s": at_s, "isolate": ranks} | ({"for_s": for_s} if for_s else {}) for at_s, for_s, ranks in left if ranks
    ]
    if entries:
        mapping["schedule"] = sorted([*mapping.get("schedule", ()), *entries], key=lambda entry: entry["at_s"])
    network.facts += [
        f"{counted(len(host_names), 'service')}, {counted(len(vertices) - len(host_names), 'bridge')} and "
        f"{counted(len(root.findall('links/link')), 'link')}, {len(taken)} of the services taken",
        "latencies are one way, in ms, along the path of least latency; jitters are standard deviations, and their "
        "squares add up",
        f"{len(mapping.get('schedule', ()))} changes in the schedule",
    ]
    network.dropped += dropped
    return network, mapping


def _ends(root: Any, replicas: dict[str, list[str]]) -> list[str]:
    return [*replicas, *(needed(bridge, "name") for bridge in root.iter("bridge"))]


def _replicas(root: Any) -> dict[str, list[str]]:
    """The instances of each service, by its name; where `replicas` or events start several: client.1, client.2."""
    joined: dict[str, float] = defaultdict(float)
    most: dict[str, float] = defaultdict(float)
    for event in sorted(root.iterfind("dynamic/schedule"), key=lambda each: number(each.get("time", 0), "time")):
        if (name := event.get("name")) and (action := event.get("action")) in ("join", "leave", "crash"):
            amount = number(event.get("amount", 1), f"{name}: amount")
            joined[name] += amount if action == "join" else -amount
            most[name] = max(most[name], joined[name])
    found: dict[str, list[str]] = {}
    for service in root.iterfind("services/service"):
        if service.get("supervisor", "").lower() == "true":
            continue
        name = needed(service, "name")
        count = max(number(service.get("replicas", 1), f"{name}: replicas"), most[name], 1)
        if count > _MOST_REPLICAS or count != int(count):
            raise FormatError(f"{name}: {count:g} replicas; 1 to {_MOST_REPLICAS:,}")
        if name in found:
            raise FormatError(f"two services have the name {short(name)}")
        found[name] = [name] if count == 1 else [f"{name}.{number_}" for number_ in range(1, int(count) + 1)]
    if not found:
        raise FormatError("no services: a network has two nodes at least")
    return found


def _add(links: _Links, names: list[str], element: Any) -> None:
    origin, dest = needed(element, "origin"), needed(element, "dest")
    for name in (origin, dest):
        if name not in names:
            raise FormatError(f"link {origin}–{dest}: {short(name)} is neither a service nor a bridge")
    shared = {name: value for name in ("latency", "jitter", "drop") if (value := element.get(name)) is not None}
    if "latency" not in shared:
        raise FormatError(f"link {origin}–{dest}: latency is missing")
    if (rate := element.get("upload")) is not None:
        links.given[origin, dest] = shared | {"rate": rate}
    else:
        links.given[origin, dest] = shared
    if (rate := element.get("download")) is not None:  # without, the link has one direction
        links.given[dest, origin] = shared | {"rate": rate}


def _graph(vertices: list[str], hosts: int, replicas: dict[str, list[str]], links: _Links) -> Graph:
    """A link of a service is one of each of its instances."""
    at = {name: place for place, name in enumerate(vertices)}
    edges = {}
    for pair, given in links.given.items():
        if pair in links.away:
            continue
        for a in replicas.get(pair[0], [pair[0]]):
            for b in replicas.get(pair[1], [pair[1]]):
                if a != b:
                    edges[at[a], at[b]] = _link(f"{a}→{b}", given)
    return Graph(vertices, range(hosts), edges)


def _link(name: str, given: dict[str, str]) -> Link:
    jitter = given.get("jitter", "0")
    return Link(
        name,
        quantity(given["latency"], TIMES_MS, f"{name}: latency", bare=1.0),
        quantity(given["rate"], BITS_BPS, f"{name}: rate", bare=1.0) if "rate" in given else None,
        number(given.get("drop", 0.0), f"{name}: drop"),
        quantity(jitter or "0", TIMES_MS, f"{name}: jitter", bare=1.0),
    )


Change = tuple[tuple[str, str], dict[str, str], str]


def _events(
    root: Any, replicas: dict[str, list[str]], links: _Links
) -> tuple[dict[float, list[Change]], list[tuple[float, float | None, list[str]]], list[str]]:
    """Changes of links by time; the services that leave, (from, for how long, instances); and what cannot be held."""
    changes: dict[float, list[Change]] = defaultdict(list)
    alive: dict[str, list[str]] = {}
    gone: dict[str, float] = {}
    isolated: list[tuple[float, float | None, list[str]]] = []
    odd: list[str] = []
    elements = list(root.iterfind("dynamic/schedule"))
    timed = sorted(
        ((number(each.get("time"), "schedule: time"), each) for each in elements), key=lambda pair: pair[0]
    )
    starting = {each.get("name") for _, each in timed if each.get("action") == "join"}
    for name, hosts in replicas.items():
        alive[name] = [] if name in starting else list(hosts)
        gone |= dict.fromkeys(hosts, 0.0) if name in starting else {}
    for at_s, event in timed:
        if at_s < 0:
            raise FormatError(f"an event at {at_s:g} s: it must be 0 or more")
        action, name = event.get("action", ""), event.get("name")
        if name is None:
            origin, dest = needed(event, "origin"), needed(event, "dest")
            if (origin, dest) not in links.given and event.get("action") == "join":
                _add(links, _ends(root, replicas), event)
                links.away |= {(origin, dest), (dest, origin)}
            if (origin, dest) not in links.given:
                raise FormatError(f"an event at {at_s:g} s: there is no link {origin}–{dest}")
            given = {key: value for key in _LATER if (value := event.get(key)) is not None}
            changes[at_s].append(((origin, dest), given, action))
            continue
        if name not in replicas:
            odd.append(f"{action or 'an event'} of {name} at {at_s:g} s")
            continue
        amount = number(event.get("amount", 1), f"{name}: amount")
        _come_or_go(
            name, action, at_s, min(max(int(amount), 0), _MOST_REPLICAS), replicas, alive, gone, isolated, odd
        )
    isolated += [(at_s, None, [host]) for host, at_s in gone.items()]
    together: dict[tuple[float, float | None], list[str]] = {}
    for at_s, for_s, hosts in isolated:
        together.setdefault((at_s, for_s), []).extend(hosts)
    dropped = [f"{counted(len(odd), 'event')} that a schedule has nothing for: {'; '.join(odd[:4])}"] if odd else []
    return changes, [(*when, hosts) for when, hosts in together.items()], dropped


def _come_or_go(
    name: str,
    action: str,
    at_s: float,
    amount: int,
    replicas: dict[str, list[str]],
    alive: dict[str, list[str]],
    gone: dict[str, float],
    isolated: list[tuple[float, float | None, list[str]]],
    odd: list[str],
) -> None:
    """A service that is not there is cut off from all others."""
    if action in ("join", "reconnect"):
        for host in [host for host in replicas[name] if host not in alive[name]][:amount]:
            alive[name].append(host)
            if at_s > (since := gone.pop(host, at_s)):
                isolated.append((since, at_s - since, [host]))
    elif action in ("leave", "crash", "disconnect"):
        for host in alive[name][:amount]:
            alive[name].remove(host)
            gone[host] = at_s
    else:
        odd.append(f"{action or 'an event without action'} of {name} at {at_s:g} s")


def _apply(links: _Links, change: Change) -> None:
    (origin, dest), given, action = change
    both = [(origin, dest), *([(dest, origin)] if (dest, origin) in links.given else [])]
    if action in ("leave", "crash", "disconnect"):
        links.away |= set(both)
    elif action in ("join", "reconnect"):
        links.away -= set(both)
    elif action:
        raise FormatError(f"an event of link {origin}–{dest}: action {short(action)} is not known")
    for pair, rate in zip(both, ("upload", "download"), strict=False):
        figures = {key: value for key, value in given.items() if key in ("latency", "jitter", "drop")}
        if rate in given:
            figures["rate"] = given[rate]
        links.given[pair] = links.given[pair] | figures
