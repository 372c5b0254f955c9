"""From profiles to plans: what the interface of each node must enforce, as plain numbers. Pure.

A node's own profile caps what it sends (uplink) and what it receives (downlink), whichever the peer. Delay, jitter
and loss belong to a directed path and are applied where it ends, so a plan holds one PathPlan per source address.
Plans travel to the agent as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from gannet.netem.links.fields import FATES, LINK_FIELDS, PathFigures, survival
from gannet.netem.links.fields import FRAME_BYTES as FRAME_BYTES
from gannet.netem.links.jitter import misfit, most_jitter_ms
from gannet.netem.links.pairs.shared_limit import SharedLimit

if TYPE_CHECKING:
    from gannet.netem.links.profile import LinkProfile

SMALLEST_FRAME_BYTES = 42
# An initial TCP window (RFC 6928) must fit, else very slow links lose packets before they start.
_SMALLEST_BUFFER_BYTES = 10 * FRAME_BYTES
DEFAULT_BUFFER_MS = 100.0
# A packet may hold several TCP segments, which are then shaped, delayed and lost as one. It never
# holds more than what the slowest rate sends in this time, so that no queue is coarser than that.
_LARGEST_PACKET_S = 0.0005
_LARGEST_PACKET_SEGMENTS = 40

Edge = tuple[int, int]  # a directed link: sender and receiver, by rank
_NONE: Mapping[Edge, LinkProfile] = {}

_address = lru_cache(maxsize=4096)(IPv4Address)  # few addresses, but thousands of plans


@dataclass(frozen=True)
class BurstPlan:
    """Gilbert-Elliott loss, see gannet.netem.links.profile.GilbertElliott."""

    good_to_bad_percent: float
    bad_to_good_percent: float
    loss_in_bad_percent: float = 100.0
    loss_in_good_percent: float = 0.0

    @property
    def loss_percent(self) -> float:
        """The share of packets lost in the long run."""
        p, r = self.good_to_bad_percent, self.bad_to_good_percent
        return min(100.0, (r * self.loss_in_good_percent + p * self.loss_in_bad_percent) / (p + r))


@dataclass(frozen=True)
class PathPlan(PathFigures):
    """The directed path from one source: delay one way, jitter around it, and what happens to packets.

    `loss_percent` is random loss, and 100 is a cut; `bursts` are additional losses, on an open path.
    """

    delay_ms: float = 0.0
    jitter_distribution: str = "uniform"
    bursts: BurstPlan | None = None
    jitter_order: str = "keep"

    @property
    def is_plain(self) -> bool:
        """True when there is nothing to enforce but a delay."""
        return self == PathPlan(self.delay_ms, self.jitter_distribution, jitter_order=self.jitter_order)

    @property
    def is_ideal(self) -> bool:
        """True when there is nothing to enforce."""
        return not self.delay_ms and self.is_plain

    @property
    def reorders(self) -> bool:
        """True when jitter makes packets overtake each other."""
        return self.jitter_ms > 0 and self.jitter_order == "reorder"

    @property
    def wanders(self) -> bool:
        """True when the delay changes in time, by jitter that keeps packets in order."""
        return self.jitter_ms > 0 and not self.reorders

    @cached_property
    def is_whole(self) -> bool:
        """True when every packet arrives once, as it was sent, and in its turn."""
        return not self.any_loss_percent and not self.reorders and not any(getattr(self, name) for name in FATES)

    @property
    def any_loss_percent(self) -> float:
        """Packets lost in the long run, at random and in bursts."""
        passed = (1 - self.loss_percent / 100) * (1 - (self.bursts.loss_percent if self.bursts else 0.0) / 100)
        return 100 * (1 - passed) if self.bursts else self.loss_percent

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PathPlan:
        """The inverse of dataclasses.asdict; TypeError on unknown fields."""
        bursts = data.get("bursts")
        return cls(**{**data, "bursts": bursts and BurstPlan(**bursts)})


@dataclass(frozen=True)
class PathLimit:
    """A path's own rate, below those of its ends, and the buffer in front of it: bytes, or where given packets."""

    rate_bps: int
    buffer_bytes: int
    buffer_packets: int | None = None


@dataclass(frozen=True)
class InterfacePlan:
    """The plan that one interface must enforce.

    Rates hold for everything that crosses the device (None: no cap); `limits` hold for what arrives from single
    sources, each with a buffer of its own in the place of the downlink's. Delay, jitter and loss hold for IPv4
    packets that arrive from the addresses in `paths`; of what else arrives, see `hardware`. The buffer of a rate
    limit holds `buffer_bytes_…`, or where given `buffer_packets_…`, served by `queue`; in front of the downlink each
    source has one of its own and they take turns, unless `down_queue` is "shared". `segments` is the largest number
    of TCP segments in one packet. `seed` fixes the random draws for losses and jitter; for engine netem only where
    kernel and tc take one (from 6.6 on). `hardware`: Ethernet addresses by IPv4 address, of this node and of its
    peers, which then need no ARP. With them whatever arrives from elsewhere is dropped; without them IPv4 and ARP
    from elsewhere are only rate-limited. Other protocols are dropped. `…_held`: all waits in the rate limit's buffer.
    `shared_in`: the shared links that it receives over, all of them; `shared_out`: those that it limits as sender.
    """

    device: str
    address: str
    up_bps: int | None
    down_bps: int | None
    buffer_bytes_up: int
    buffer_bytes_down: int
    paths: Mapping[str, PathPlan] = field(default_factory=dict)
    segments: int = 1
    seed: int = 0
    buffer_packets_up: int | None = None
    buffer_packets_down: int | None = None
    queue: str = "fifo"
    down_queue: str = "per-source"
    hardware: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, PathLimit] = field(default_factory=dict)
    up_held: bool = False
    down_held: bool = False
    shared_in: tuple[SharedLimit, ...] = ()
    shared_out: tuple[SharedLimit, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.device.encode()) <= 15:
            raise ValueError(f"device {self.device!r}: a Linux interface name has 1 to 15 bytes")
        for source in (self.address, *self.paths):
            _address(source)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InterfacePlan:
        """The inverse of to_json; TypeError on unknown or missing fields."""
        paths = {source: PathPlan.from_json(path) for source, path in data["paths"].items()}
        limits = {source: PathLimit(**limit) for source, limit in data.get("limits", {}).items()}
        shared = {name: tuple(map(SharedLimit.from_json, data.get(name, ()))) for name in ("shared_in", "shared_out")}
        return cls(**{**data, "paths": paths, "limits": limits, **shared})

    def rates_bps(self) -> list[int]:
        """Every rate that is limited here; of a shared link that of as many pairs as there are nodes."""
        own = (rate for rate in (self.up_bps, self.down_bps) if rate is not None)
        world = len(self.paths) + 1
        shared = (limit.rate_bps * world // max(world, limit.pairs) for limit in (*self.shared_in, *self.shared_out))
        return [*own, *(limit.rate_bps for limit in self.limits.values()), *shared]


def path_plan(sender: LinkProfile, receiver: LinkProfile) -> PathPlan:
    """The path between two nodes: each end contributes half, so equal profiles give their own figures.

    Delays add halves; other figures combine as gannet.netem.links.fields says, and are 0 where the path lacks figures
    that they need. Jitter has the distribution, correlation and order of the end with more (the sender, where both
    have as much), and is no more than the path's delay holds. Bursts are those of the end that loses more, thinned to
    the combined loss.
    """
    more = max(sender, receiver, key=lambda profile: profile.jitter_ms)
    loss_percent, bursts = _path_loss(sender, receiver)
    delay_ms = (sender.up_delay_ms + receiver.down_delay_ms) / 2
    combined = {
        name: declared.combine(getattr(sender, name), getattr(receiver, name))
        for name, declared in LINK_FIELDS.items()
        if declared.combine is not None
    }
    if misfit(more.jitter_distribution, delay_ms, combined["jitter_ms"]):
        combined["jitter_ms"] = most_jitter_ms(more.jitter_distribution, delay_ms)
    jittered = combined["jitter_ms"] > 0
    there = {name for name, value in {"delay_ms": delay_ms, **combined}.items() if value > 0}
    idle = {name for name in combined if (needs := LINK_FIELDS[name].needs) and there.isdisjoint(needs)}
    return PathPlan(
        delay_ms=delay_ms,
        jitter_distribution=more.jitter_distribution,
        jitter_correlation_percent=more.jitter_correlation_percent if jittered else 0.0,
        jitter_order=more.jitter_order if jittered else "keep",
        loss_percent=loss_percent,
        bursts=bursts,
        **{name: 0.0 if name in idle else value for name, value in combined.items()},
    )


def _path_loss(sender: LinkProfile, receiver: LinkProfile) -> tuple[float, BurstPlan | None]:
    """Random loss in per cent, and loss in bursts. One of the two is nothing; 100% loss is a cut."""
    loss_percent = survival(sender.mean_loss_percent, receiver.mean_loss_percent)
    worse = max(sender, receiver, key=lambda profile: profile.mean_loss_percent)
    if worse.gilbert_elliott is None or not 0 < loss_percent < 100:
        return loss_percent, None
    bursts = worse.gilbert_elliott
    if sender.gilbert_elliott != receiver.gilbert_elliott:
        bursts = bursts.thinned(min(1.0, loss_percent / worse.mean_loss_percent))
    return 0.0, BurstPlan(**bursts.model_dump())


def buffer_bytes(rate_bps: int | None, buffer_ms: float) -> int:
    """Bytes of the buffer in front of a rate limit: `buffer_ms` at that rate, at least ten full frames."""
    return max(_SMALLEST_BUFFER_BYTES, round((rate_bps or 0) * buffer_ms / 8000))


def profile_buffer_bytes(profile: LinkProfile, rate_bps: int | None) -> int:
    """Bytes of a profile's buffer in front of this rate: as configured, or what its packets hold at full size."""
    if profile.buffer_bytes is not None:
        return profile.buffer_bytes
    if profile.buffer_packets is not None:
        return profile.buffer_packets * FRAME_BYTES
    return buffer_bytes(rate_bps, DEFAULT_BUFFER_MS if profile.buffer_ms is None else profile.buffer_ms)


def path_limit(edge: LinkProfile, receiver: LinkProfile) -> PathLimit | None:
    """The limit of a path whose own profile is `edge`; None: it has no rate.

    Its rate is the lesser of both directions', as between two nodes of that profile. A buffer that the profile does
    not state is the receiver's, at the rate of this path or of the receiver's downlink, whichever is less.
    """
    rate_bps = edge.path_bps
    if rate_bps is None:
        return None
    stated = edge if edge.has_buffer else receiver
    slowest_bps = min(rate_bps, receiver.down_bps or rate_bps)
    return PathLimit(rate_bps, profile_buffer_bytes(stated, slowest_bps), stated.buffer_packets)


def packet_segments(rates_bps: Sequence[int | None], single: bool) -> int:
    """TCP segments a packet may hold: one where each has its own fate (`single`), else 0.5 ms of the slowest rate."""
    if single:
        return 1
    slowest_bps = min((rate for rate in rates_bps if rate is not None), default=None)
    if slowest_bps is None:
        return _LARGEST_PACKET_SEGMENTS
    return max(1, min(_LARGEST_PACKET_SEGMENTS, int(slowest_bps * _LARGEST_PACKET_S / (8 * FRAME_BYTES))))


def network_plan(
    default: LinkProfile,
    nodes: Mapping[int, LinkProfile],
    edges: Mapping[Edge, LinkProfile],
    addresses: Sequence[str],
    device: str,
    seed: int = 0,
    rates: Mapping[Edge, LinkProfile] = _NONE,
) -> list[InterfacePlan]:
    """One plan for each node, in rank order; `addresses[rank]` is the node's IPv4 address on `device`.

    A node has `nodes[rank]`, else `default`. `edges[src, dst]` replaces delay, jitter and loss of that directed link
    exactly, and `rates[src, dst]` gives it a rate of its own, below those of its ends. Raises ValueError for ranks
    that do not exist.
    """
    world = len(addresses)
    for rank in {*nodes, *(rank for edge in (*edges, *rates) for rank in edge)}:
        if not 0 <= rank < world:
            raise ValueError(f"links name node {rank}, but the nodes are 0 to {world - 1}")
    for source, target in (*edges, *rates):
        if source == target:
            raise ValueError(f"links name an edge from node {source} to itself")
    profiles = [nodes.get(rank, default) for rank in range(world)]
    incoming: list[dict[str, PathPlan]] = []
    known: dict[tuple[int, int], PathPlan] = {}  # most nodes share a profile, and traces plan many times a second
    for target in range(world):
        paths: dict[str, PathPlan] = {}
        for source in range(world):
            if source != target:
                edge = edges.get((source, target))
                ends = (edge, edge) if edge else (profiles[source], profiles[target])
                key = (id(ends[0]), id(ends[1]))
                if key not in known:
                    known[key] = path_plan(*ends)
                paths[addresses[source]] = known[key]
        incoming.append(paths)
    limits: list[dict[str, PathLimit]] = [{} for _ in range(world)]
    same: dict[tuple[int, int], PathLimit | None] = {}
    for (source, target), profile in sorted(rates.items(), key=lambda item: item[0]):
        pair = id(profile), id(profiles[target])
        if pair not in same:
            same[pair] = path_limit(profile, profiles[target])
        if (limit := same[pair]) is not None:
            limits[target][addresses[source]] = limit
    segments = packet_segments(
        [
            *(rate for profile in profiles for rate in (profile.up_bps, profile.down_bps)),
            *(limit.rate_bps for limit in same.values() if limit is not None),
        ],
        any(not path.is_whole for path in known.values())
        or any(profile.takes_packets_singly for profile in profiles)
        or any(limit.buffer_packets is not None for limit in same.values() if limit is not None),
    )
    return [
        InterfacePlan(
            device=device,
            address=addresses[rank],
            up_bps=profile.up_bps,
            down_bps=profile.down_bps,
            buffer_bytes_up=profile_buffer_bytes(profile, profile.up_bps),
            buffer_bytes_down=profile_buffer_bytes(profile, profile.down_bps),
            paths=incoming[rank],
            segments=segments,
            seed=seed,
            buffer_packets_up=profile.buffer_packets,
            buffer_packets_down=profile.buffer_packets,
            queue=profile.queue,
            down_queue=profile.down_queue,
            limits=limits[rank],
        )
        for rank, profile in enumerate(profiles)
    ]


def path_rate_bps(plans: Sequence[InterfacePlan], source: int, target: int) -> int | None:
    """The rate of a directed link when nothing else uses its ends; None: no cap.

    The least of the sender's uplink, the path's own limit, its shared links' and the receiver's downlink.
    """
    address = plans[source].address
    limit = plans[target].limits.get(address)
    shared = [limit.rate_bps for limit in plans[target].shared_in if address in limit.peers]
    rates = plans[source].up_bps, limit.rate_bps if limit else None, *shared, plans[target].down_bps
    return min((rate for rate in rates if rate is not None), default=None)
