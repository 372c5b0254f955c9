"""The virtual fabric's links: capped uplinks, downlinks, paths and inner links that messages share fairly, and a
delay between each pair, with jitter in order.

Messages from one node to another follow each other in order, as on one TCP connection; those of different pairs share
the links that they have in common (see gannet.fabrics.virtual.fair_share). Rates, delays and cuts change at times
that are known in advance. `check_modelled` refuses what these links do not model.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from math import inf
from random import Random
from typing import Generic, TypeVar

from gannet.fabrics.job import Job
from gannet.fabrics.virtual.fair_share import Flow, Link, reshare
from gannet.netem.links.jitter import InOrder
from gannet.netem.links.outages import outages_as_cuts
from gannet.netem.links.plan import InterfacePlan, PathPlan

Message = TypeVar("Message")

# Moments no farther apart than this are one; otherwise rounding would split simultaneous events, flow by flow.
_INSTANT_S = 1e-9


class _Stream(Flow, Generic[Message]):
    """All that is in flight from one node to another: the first message crosses the links, the others wait."""

    __slots__ = ("arrived_s", "left_bits", "open", "since_s", "source", "to", "turn", "waiting")

    def __init__(self, source: int, to: int, *links: Link) -> None:
        super().__init__(*links)
        self.source, self.to = source, to
        self.waiting: deque[tuple[float, Message]] = deque()  # bits, message
        self.left_bits = 0.0  # of the first, at `since_s`
        self.since_s = 0.0
        self.arrived_s = 0.0  # last known arrival: where a delay becomes shorter, nothing overtakes
        self.open = False  # crosses the links
        self.turn = 0  # counts predictions: only the latest is valid

    def settle(self, now_s: float, rate_bps: float) -> None:
        """Account for the bits sent at that rate until now."""
        if now_s > self.since_s:
            self.left_bits = max(0.0, self.left_bits - rate_bps * (now_s - self.since_s))
            self.since_s = now_s


class LinkModel(Generic[Message]):
    """Messages in flight: sender, receiver, remaining bits, and arrival time of each.

    A message takes its share of its sender's uplink and its receiver's downlink, of links that its path shares with
    others, and of its path where that has a rate of its own, until its last bit is through all of them, and arrives a
    delay later: with jitter, that which the path has at that moment. Rates change on the whole path at once: TCP's
    reaction time is not modelled, nor are queues (of several senders each gets its share, as where each has a queue
    of its own in front of the downlink).
    """

    def __init__(
        self, plans: Sequence[InterfacePlan], changes: Iterable[tuple[float, Sequence[InterfacePlan]]] = ()
    ) -> None:
        states = [(0.0, plans), *changes]
        self._times = [at_s for at_s, _ in states]
        # What is sent over a link that is cut waits here in any case, as where an outage holds packets.
        self._plans = [outages_as_cuts(plans) for _, plans in states]
        self._number = 0  # of the present state
        self._up = [Link(_capacity(plan.up_bps)) for plan in plans]
        self._down = [Link(_capacity(plan.down_bps)) for plan in plans]
        ranks = {plan.address: rank for rank, plan in enumerate(plans)}
        # Paths that have a rate of their own at any time.
        self._limited = {
            (ranks[address], to) for _, state in states for to, plan in enumerate(state) for address in plan.limits
        }
        # Links that several pairs share, by their numbers, and those of each pair.
        self._shared: dict[int, Link] = {}
        self._shared_by: dict[tuple[int, int], list[Link]] = {}
        for to, limit in ((to, limit) for to, plan in enumerate(plans) for limit in plan.shared_in):
            link = self._shared.setdefault(limit.number, Link(_capacity(limit.rate_bps)))
            for address in limit.peers:
                self._shared_by.setdefault((ranks[address], to), []).append(link)
        self._streams: dict[tuple[int, int], _Stream[Message]] = {}
        self._touched: dict[Link, None] = {}
        self._ends: list[tuple[float, int, int, _Stream[Message]]] = []
        self._count = 0
        self._jitter: dict[tuple[int, int], InOrder] = {}
        self._cut: dict[int, bool] = {}  # by number of the state, computed on demand

    def send(self, now_s: float, source: int, to: int, wire_bytes: float, message: Message) -> None:
        """Send a message of this many bytes, frames included; `advance` returns it when it arrives."""
        stream = self._streams.get((source, to))
        if stream is None:
            links = [self._up[source], self._down[to], *self._shared_by.get((source, to), ())]
            if (source, to) in self._limited:
                links.append(Link(_capacity(self._limit_bps(source, to))))
            stream = self._streams[source, to] = _Stream(source, to, *links)
        stream.waiting.append((8.0 * wire_bytes, message))
        if len(stream.waiting) == 1:
            stream.left_bits, stream.since_s = 8.0 * wire_bytes, now_s
            if self._path(stream).loss_percent < 100:
                self._open(stream)

    def next_s(self, now_s: float) -> float:
        """When the next message will be through, or links change; infinity: never, unless more is sent."""
        if self._touched:
            for stream, rate_bps in reshare(self._touched).items():
                assert isinstance(stream, _Stream)
                stream.settle(now_s, rate_bps)
                self._foresee(stream)
            self._touched = {}
        while self._ends and self._ends[0][2] != self._ends[0][3].turn:
            heapq.heappop(self._ends)
        later_s = self._times[self._number + 1] if self._number + 1 < len(self._times) else inf
        return min(self._ends[0][0], later_s) if self._ends else later_s

    def advance(self, now_s: float) -> list[tuple[float, Message]]:
        """Advance to `now_s`, the latest result of `next_s`; returns (arrival time, message) of those through."""
        through = []
        while self._ends and self._ends[0][0] <= now_s + _INSTANT_S:
            end_s, _, turn, stream = heapq.heappop(self._ends)
            if turn == stream.turn:
                stream.arrived_s = max(stream.arrived_s, end_s + self._delay_s(stream.source, stream.to, end_s))
                through.append((stream.arrived_s, stream.waiting.popleft()[1]))
                if stream.waiting:
                    stream.left_bits, stream.since_s = stream.waiting[0][0], end_s
                    self._foresee(stream)
                else:
                    self._close(stream)
        while self._number + 1 < len(self._times) and self._times[self._number + 1] <= now_s:
            self._change(self._times[self._number + 1])
        return through

    def news_s(self, now_s: float, source: int, to: int) -> float:
        """When news sent now arrives, which takes no capacity; infinity: never."""
        path = self._plans[self._number][to].paths[self._plans[self._number][source].address]
        left_s = self.cut_until_s(now_s) if path.loss_percent == 100 else now_s
        return left_s + self._delay_s(source, to, now_s)

    def drop(self, source: int, to: int) -> None:
        """Drop all messages of a pair that have not left the links."""
        stream = self._streams.get((source, to))
        if stream is not None and stream.waiting:
            if stream.open:
                self._close(stream)
            stream.waiting.clear()

    def plans_at(self, now_s: float) -> Sequence[InterfacePlan]:
        """The plans that apply at that time."""
        return self._plans[max(0, bisect_right(self._times, now_s) - 1)]

    def cut_until_s(self, now_s: float) -> float:
        """The time until which any link is cut; `now_s` where none is."""
        number = max(0, bisect_right(self._times, now_s) - 1)
        while self._any_cut(number):
            number += 1
            if number == len(self._times):
                return inf
            now_s = self._times[number]
        return now_s

    def _any_cut(self, number: int) -> bool:
        if number not in self._cut:
            self._cut[number] = any(path.loss_percent == 100 for path in paths_of(self._plans[number]))
        return self._cut[number]

    def _change(self, at_s: float) -> None:
        """The next state applies from now on."""
        for stream in self._streams.values():
            if stream.open:
                stream.settle(at_s, stream.rate_bps)
                if stream.left_bits < stream.waiting[0][0]:  # bits sent before the change arrive by the old state
                    delay_s = self._delay_s(stream.source, stream.to, at_s)
                    stream.arrived_s = max(stream.arrived_s, at_s + delay_s)
        self._number += 1
        own = [stream for pair, stream in self._streams.items() if pair in self._limited]
        for links, caps in (
            ([stream.links[-1] for stream in own], [self._limit_bps(stream.source, stream.to) for stream in own]),
            (self._up, [plan.up_bps for plan in self._plans[self._number]]),
            (self._down, [plan.down_bps for plan in self._plans[self._number]]),
        ):
            for link, rate_bps in zip(links, caps, strict=True):
                if link.capacity_bps != _capacity(rate_bps):
                    link.capacity_bps = _capacity(rate_bps)
                    self._touched[link] = None
        for stream in self._streams.values():
            if stream.waiting and stream.open != (self._path(stream).loss_percent < 100):
                (self._close if stream.open else self._open)(stream)

    def _open(self, stream: _Stream[Message]) -> None:
        stream.open = True
        stream.enter()
        self._touched |= dict.fromkeys(stream.links)

    def _close(self, stream: _Stream[Message]) -> None:
        stream.open = False
        stream.turn += 1
        stream.leave()
        self._touched |= dict.fromkeys(stream.links)

    def _foresee(self, stream: _Stream[Message]) -> None:
        """Predict when the first message of a stream is through, at its present rate."""
        stream.turn += 1
        if stream.rate_bps > 0:
            self._count += 1
            end_s = stream.since_s + stream.left_bits / stream.rate_bps
            heapq.heappush(self._ends, (end_s, self._count, stream.turn, stream))

    def _delay_s(self, source: int, to: int, at_s: float) -> float:
        """The delay of what leaves the links at that time, no earlier than in the call before."""
        plan, address = self._plans[self._number][to], self._plans[self._number][source].address
        path = plan.paths[address]
        if not path.jitter_ms:
            return path.delay_ms / 1000
        jitter = self._jitter.get((source, to))
        if jitter is None or jitter.distribution != path.jitter_distribution:
            draws = Random(f"{plan.seed}: {address} to {plan.address}: jitter")
            jitter = self._jitter[source, to] = InOrder(path.jitter_distribution, draws)
        jitter.set(path.jitter_ms / 1000)
        return max(0.0, path.delay_ms / 1000 + jitter.at(at_s))

    def _limit_bps(self, source: int, to: int) -> int | None:
        """The path's own rate at present."""
        plans = self._plans[self._number]
        limit = plans[to].limits.get(plans[source].address)
        return limit.rate_bps if limit else None

    def _path(self, stream: _Stream[Message]) -> PathPlan:
        plans = self._plans[self._number]
        return plans[stream.to].paths[plans[stream.source].address]


def paths_of(plans: Iterable[InterfacePlan]) -> Collection[PathPlan]:
    """All paths, each object once: plans of many nodes share most of them."""
    return {id(path): path for plan in plans for path in plan.paths.values()}.values()


def _capacity(rate_bps: int | None) -> float:
    return inf if rate_bps is None else float(rate_bps)


def check_modelled(job: Job) -> None:
    """Raise ValueError when the job asks for what this fabric cannot model."""
    if job.config.pace_ms is None:
        raise ValueError(
            "pace_ms: the virtual fabric's clock needs to know how long a gradient takes; "
            "set it, for example pace_ms: 40"
        )
    job.config.algorithm.traits.check_modelled()
    for plans in (job.plans, *(job.plans_of(change.links) for change in job.changes)):
        for path in paths_of(plans):
            modelled = replace(path, delay_ms=0.0, jitter_ms=0.0, jitter_distribution="uniform", jitter_order="keep")
            if path.reorders or modelled not in (PathPlan(), PathPlan(loss_percent=100.0)):
                rank = next(rank for rank, plan in enumerate(plans) if any(path is p for p in plan.paths.values()))
                said = "jitter_order: reorder" if path.reorders else f"loss {path.any_loss_percent:g}%"
                raise ValueError(
                    f"links: the virtual fabric models rate, delay and jitter in order only, but a path into node "
                    f"{rank} has {said}; use fabric: namespaces"
                )
