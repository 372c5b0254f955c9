"""The zones, clusters and routes of a SimGrid platform: which links lie between two hosts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gannet.netem.formats.base import FormatError
from gannet.netem.formats.graphs.network import counted
from gannet.netem.formats.graphs.xml_files import needed
from gannet.netem.links.yaml_files import short

_MOST_HOSTS = 20_000
_DEEPEST = 20
Key = tuple[str, str]
"""A link's id, and UP or DOWN of a split one."""
_TURNED = {"": "", "UP": "DOWN", "DOWN": "UP"}
_SHORTEST = ("Floyd", "Dijkstra", "DijkstraCache")


@dataclass
class Zone:
    name: str
    routing: str
    above: Zone | None
    routes: dict[tuple[str, str], list[Key]] = field(default_factory=dict)
    gateways: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    near: dict[str, list[str]] = field(default_factory=dict)

    def add(self, source: str, target: str, links: list[Key], symmetrical: bool) -> None:
        """A route, and the one back unless another is given for it."""
        self.routes[source, target] = links
        self.near.setdefault(source, []).append(target)
        if symmetrical and source != target:
            back = [(name, _TURNED[direction]) for name, direction in reversed(links)]
            self.routes.setdefault((target, source), back)
            self.near.setdefault(target, []).append(source)

    def links(self, source: str, target: str) -> list[Key]:
        """Between two of its own hosts, routers or zones. Raises FormatError."""
        if (source, target) in self.routes:
            return self.routes[source, target]
        if self.routing not in _SHORTEST:
            raise FormatError(f"zone {short(self.name)} gives no route from {source} to {target}")
        before, waiting = {source: source}, deque([source])
        while waiting and target not in before:
            at = waiting.popleft()
            for each in self.near.get(at, ()):
                if each not in before:
                    before[each] = at
                    waiting.append(each)
        if target not in before:
            raise FormatError(f"zone {short(self.name)} has no route from {source} to {target}")
        found: list[Key] = []
        while target != source:
            found = self.routes[before[target], target] + found
            target = before[target]
        return found


@dataclass
class Platform:
    """`links` by id, as their attributes; `hosts` in the file's order."""

    hosts: list[str] = field(default_factory=list)
    links: dict[str, dict[str, str]] = field(default_factory=dict)
    inside: dict[str, Zone] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def route(self, source: str, target: str, depth: int = 0) -> list[Key]:
        """The links from one host or router to another. Raises FormatError."""
        if source == target:
            return []
        if depth > _DEEPEST:
            raise FormatError(f"the routes from {source} to {target} lead through gateways without end")
        over = [self._above(source), self._above(target)]
        common = next((zone for zone in over[0] if zone in over[1]), None)
        if common is None:
            raise FormatError(f"{source} and {target} are in no common zone")
        ends = []
        for end, zones in zip((source, target), over, strict=True):
            place = zones.index(common)
            ends.append(end if place == 0 else zones[place - 1].name)
        links = common.links(*ends)
        if tuple(ends) not in common.gateways:
            return links
        leave, enter = common.gateways[ends[0], ends[1]]
        return [*self.route(source, leave, depth + 1), *links, *self.route(enter, target, depth + 1)]

    def _above(self, name: str) -> list[Zone]:
        if name not in self.inside:
            raise FormatError(f"a route names {short(name)}, which is no host or router")
        zone: Zone | None = self.inside[name]
        found: list[Zone] = []
        while zone is not None:
            found.append(zone)
            zone = zone.above
        return found

    def place(self, name: str, zone: Zone, host: bool) -> None:
        """Add a host or router to a zone. Raises FormatError."""
        if name in self.inside:
            raise FormatError(f"two hosts or routers have the id {short(name)}")
        self.inside[name] = zone
        if host:
            self.hosts.append(name)
            if len(self.hosts) > _MOST_HOSTS:
                raise FormatError(f"more than {_MOST_HOSTS:,} hosts")


def read_platform(root: Any) -> Platform:
    """The platform of a file. Raises FormatError."""
    platform = Platform()
    for element in root:
        if element.tag in ("zone", "AS"):
            _zone(platform, element, None)
        elif element.tag == "cluster":
            _cluster(platform, element, None)
    if not platform.hosts:
        raise FormatError("a platform without hosts")
    if count := sum(1 for tag in ("bypassRoute", "bypassZoneRoute", "bypassASroute") for _ in root.iter(tag)):
        platform.dropped.append(f"{counted(count, 'route')} that bypass others")
    return platform


def _zone(platform: Platform, element: Any, above: Zone | None) -> None:
    routing = element.get("routing", "Full")
    if routing not in ("Full", "None", *_SHORTEST):
        raise FormatError(
            f"zone {short(element.get('id'))}: routing {short(routing)} is not read, but Full and Floyd"
        )
    zone = Zone(needed(element, "id"), routing, above)
    for child in element:
        if child.tag in ("zone", "AS"):
            _zone(platform, child, zone)
        elif child.tag == "cluster":
            _cluster(platform, child, zone)
        elif child.tag in ("host", "router"):
            platform.place(needed(child, "id"), zone, child.tag == "host")
        elif child.tag == "link":
            needed(child, "bandwidth")
            platform.links[needed(child, "id")] = dict(child.attrib)
        elif child.tag in ("peer", "cabinet", "wifi", "host_link"):
            raise FormatError(f"<{child.tag}> of zone {short(zone.name)} is not read; hosts, links and clusters are")
    for child in element:
        if child.tag not in ("route", "zoneRoute", "ASroute"):
            continue
        source, target = needed(child, "src"), needed(child, "dst")
        links = [_key(platform, each) for each in child if each.tag == "link_ctn"]
        symmetrical = child.get("symmetrical", "YES").upper() != "NO"
        zone.add(source, target, links, symmetrical)
        if child.tag != "route":
            gateways = needed(child, "gw_src"), needed(child, "gw_dst")
            zone.gateways[source, target] = gateways
            if symmetrical:
                zone.gateways.setdefault((target, source), gateways[::-1])


def _key(platform: Platform, element: Any) -> Key:
    name, direction = needed(element, "id"), element.get("direction", "NONE")
    if name not in platform.links and name.rpartition("_")[0] in platform.links:
        name, _, direction = name.rpartition("_")
    if name not in platform.links:
        raise FormatError(f"a route names the link {short(name)}, which does not exist")
    return name, direction if direction in ("UP", "DOWN") else ""


def _cluster(platform: Platform, element: Any, above: Zone | None) -> None:
    """Hosts with a link each, to a backbone where there is one."""
    name = needed(element, "id")
    if (topology := element.get("topology", "FLAT")) != "FLAT":
        raise FormatError(f"cluster {short(name)}: topology {short(topology)} is not read, but FLAT")
    zone = Zone(name, "Floyd", above)
    prefix, suffix = element.get("prefix", ""), element.get("suffix", "")
    router = element.get("router_id") or f"{prefix}{name}_router{suffix}"
    platform.place(router, zone, host=False)
    backbone: list[Key] = []
    if element.get("bb_bw"):
        policy = element.get("bb_sharing_policy", "SHARED")
        figures = {
            "bandwidth": element.get("bb_bw"),
            "latency": element.get("bb_lat", "0s"),
            "sharing_policy": policy,
        }
        platform.links[f"{name}_backbone"] = figures
        backbone = [(f"{name}_backbone", "")]
    policy = element.get("sharing_policy", "SPLITDUPLEX")
    split = policy in ("SPLITDUPLEX", "FULLDUPLEX")
    numbers = _radical(name, needed(element, "radical"))
    own = {f"{prefix}{number}{suffix}": f"{name}_link_{number}" for number in numbers}
    for host, link in own.items():
        platform.place(host, zone, host=True)
        figures = {"bandwidth": needed(element, "bw"), "latency": element.get("lat", "0s"), "sharing_policy": policy}
        platform.links[link] = figures
        zone.add(host, router, [(link, "UP" if split else ""), *backbone], symmetrical=True)
    zone.routes = _ClusterRoutes(zone.routes, own, backbone, split)


class _ClusterRoutes(dict[tuple[str, str], list[Key]]):
    """Between any two hosts of a cluster: the link of one, the backbone, the link of the other."""

    def __init__(
        self, routes: dict[tuple[str, str], list[Key]], own: dict[str, str], backbone: list[Key], split: bool
    ) -> None:
        super().__init__(routes)
        self._own, self._backbone, self._split = own, backbone, split

    def __contains__(self, pair: object) -> bool:
        return super().__contains__(pair) or (isinstance(pair, tuple) and all(end in self._own for end in pair))

    def __missing__(self, pair: tuple[str, str]) -> list[Key]:
        up, down = ("UP", "DOWN") if self._split else ("", "")
        return [(self._own[pair[0]], up), *self._backbone, (self._own[pair[1]], down)]


def _radical(name: str, text: str) -> list[int]:
    """ "0-3,7" → 0, 1, 2, 3, 7. Raises FormatError."""
    numbers: list[int] = []
    for part in text.replace(";", ",").split(","):
        low, _, high = part.strip().partition("-")
        if not (low.isdecimal() and (high or low).isdecimal() and len(low) < 9 and len(high) < 9):
            raise FormatError(f"cluster {short(name)}: radical {short(text)} is not like 0-9,12")
        if len(numbers) + int(high or low) - int(low) > _MOST_HOSTS:
            raise FormatError(f"cluster {short(name)}: more than {_MOST_HOSTS:,} hosts")
        numbers += range(int(low), int(high or low) + 1)
    return numbers
