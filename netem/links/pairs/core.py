"""Shared links that no node can limit, since their pairs have several senders and several receivers. Pure.

They are limited in the core of the network, where the links of all nodes meet: one rate and one buffer for whatever
enters it from these senders and is for these receivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import InterfacePlan, packet_segments


@dataclass(frozen=True)
class CoreLink:
    """A shared link in the core. `targets`: by port (the interface at which a sender's packets enter the core), the
    IPv4 addresses whose packets pass it. `rate_bps` None: no limit. Its buffer holds bytes, or where given packets,
    and is served by `queue`. `segments`: the frames that a packet may hold there.
    """

    number: int
    rate_bps: int | None
    buffer_bytes: int
    buffer_packets: int | None
    queue: str
    segments: int
    targets: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CoreLink:
        """The inverse of dataclasses.asdict; TypeError on unknown or missing fields."""
        return cls(**{**data, "targets": {port: tuple(found) for port, found in data["targets"].items()}})


def core_links(plans: Sequence[InterfacePlan], ports: Sequence[str]) -> tuple[CoreLink, ...]:
    """The shared links in the core, from the plans of all nodes and their ports, both by rank.

    Buffer and queue are those of the receiver that has the largest buffer.
    """
    ranks = {plan.address: rank for rank, plan in enumerate(plans)}
    ends: dict[int, list[tuple[SharedLimit, InterfacePlan]]] = {}
    for plan in plans:
        for limit in plan.shared_in:
            if limit.at == "core":
                ends.setdefault(limit.number, []).append((limit, plan))
    found = []
    for number, members in sorted(ends.items()):
        most, receiver = max(members, key=lambda end: end[0].buffer_bytes)
        targets: dict[str, tuple[str, ...]] = {}
        for rank, address in sorted((ranks[peer], plan.address) for limit, plan in members for peer in limit.peers):
            targets[ports[rank]] = (*targets.get(ports[rank], ()), address)
        segments = packet_segments([most.rate_bps], single=False)
        size = most.buffer_bytes, most.buffer_packets
        found.append(CoreLink(number, most.rate_bps, *size, receiver.queue, segments, targets))
    return tuple(found)
