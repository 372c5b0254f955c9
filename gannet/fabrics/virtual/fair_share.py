"""Max-min fair sharing of links by flows: each is as fast as possible without slowing down a slower one.

The fluid picture of TCP's flows that simulators of large platforms use (SimGrid's; how good it is: Velho, Schnorr,
Casanova, Legrand, "On the Validity of Flow-level TCP Network Models for Grid and Cloud Simulations", TOMACS 2013).
The allocation is the only one in which every flow has a bottleneck: a link that is full, on which no flow is faster
(Bertsekas, Gallager, "Data Networks", section 6.5.2). So after a change, only flows that have lost their bottleneck
need a new rate: in a large network those are few, and the others are not even examined.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import inf

# Rates that differ by less than this share are equal, and a link full to within this share is full.
_SAME = 1e-9


class Link:
    """One direction of one node's interface: its capacity, bit/s (inf: no cap), and the flows that cross it now."""

    __slots__ = ("_count", "_free", "_full", "_top", "capacity_bps", "flows")

    def __init__(self, capacity_bps: float = inf) -> None:
        self.capacity_bps = capacity_bps
        self.flows: dict[Flow, None] = {}  # an ordered set: results must not depend on memory addresses
        self._free, self._count = 0.0, 0
        self._full, self._top = False, 0.0


class Flow:
    """A flow over one or more links: its rate, bit/s, is the same on all of them."""

    __slots__ = ("links", "rate_bps")

    def __init__(self, *links: Link) -> None:
        self.links = links
        self.rate_bps = 0.0

    def enter(self) -> None:
        """Start to cross the links; the rate is 0 until `reshare` is called with them."""
        for link in self.links:
            link.flows[self] = None

    def leave(self) -> None:
        """Stop crossing the links."""
        self.rate_bps = 0.0
        for link in self.links:
            del link.flows[self]


def reshare(changed: Iterable[Link]) -> dict[Flow, float]:
    """Give all flows their max-min fair rates after flows entered or left `changed`, or their capacities changed.

    Returns the previous rates (bit/s) of the flows whose rates have changed.
    """
    moving = dict.fromkeys(flow for link in changed for flow in link.flows)
    before = {flow: flow.rate_bps for flow in moving}
    while moving:
        links = _fill(moving)
        more = _without_bottleneck(moving, links)
        if not more:
            break
        before |= {flow: flow.rate_bps for flow in more}
        moving |= more
    return {flow: rate for flow, rate in before.items() if flow.rate_bps != rate}


def _fill(moving: dict[Flow, None]) -> list[Link]:
    """Raise the rates of these flows together, each until one of its links is full; other flows keep their rates."""
    links = [
        link for link in dict.fromkeys(link for flow in moving for link in flow.links) if link.capacity_bps < inf
    ]
    for flow in moving:
        flow.rate_bps = -1.0  # not known yet
    for link in links:
        rates = [flow.rate_bps for flow in link.flows]
        link._count = rates.count(-1.0)
        link._free = link.capacity_bps - sum(rates) - link._count
    shares = [(link._free / link._count, number, link) for number, link in enumerate(links)]
    heapq.heapify(shares)
    level = 0.0
    while shares:
        share, number, link = shares[0]
        if not link._count:
            heapq.heappop(shares)
            continue
        now = link._free / link._count
        if now > share * (1 + _SAME):  # others were limited elsewhere and left more to the rest
            heapq.heapreplace(shares, (now, number, link))
            continue
        heapq.heappop(shares)
        if share > level * (1 + _SAME):
            level = share
        for flow in link.flows:
            if flow.rate_bps < 0:
                flow.rate_bps = level
                for other in flow.links:
                    other._free -= level
                    other._count -= 1
    for flow in moving:
        if flow.rate_bps < 0:
            flow.rate_bps = inf  # no cap anywhere on its path
    return links


def _without_bottleneck(moving: dict[Flow, None], links: list[Link]) -> dict[Flow, None]:
    """The other flows on these links whose rates must change now that those of `moving` have."""
    met = [link for link in links if any(flow not in moving for flow in link.flows)]
    if not met:
        return {}
    others = dict.fromkeys(flow for link in met for flow in link.flows if flow not in moving)
    for link in dict.fromkeys(link for flow in (*moving, *others) for link in flow.links):
        rates = [flow.rate_bps for flow in link.flows]
        link._full, link._top = sum(rates) >= link.capacity_bps * (1 - _SAME), max(rates)
    more = {flow: None for flow in others if not _has_bottleneck(flow)}
    for link in met:
        for flow in link.flows:
            if flow in moving and not _has_bottleneck(flow):
                more |= {other: None for other in link.flows if other in others and other.rate_bps > flow.rate_bps}
    return more


def _has_bottleneck(flow: Flow) -> bool:
    return any(link._full and flow.rate_bps >= link._top * (1 - _SAME) for link in flow.links)
