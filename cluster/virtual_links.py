"""The virtual fabric's links: queues with a rate and a delay between each pair, which may change as time goes on.

What will change is known from the beginning, so that a parcel's way through its queues is worked out at once, bit by
bit, whatever rates it meets on it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from netem.plan import InterfacePlan


@dataclass(frozen=True)
class Piece:
    """Part of a parcel: so many bytes reach the downlink from `first_s` to `last_s`, at an even rate."""

    first_s: float
    last_s: float
    wire_bytes: float


class LinkModel:
    """Uplink and downlink as queues with a rate, and a delay between each pair.

    A parcel is cut through: its first bit enters the downlink `delay` after it left the uplink's queue, and it is
    delivered when its last bit has passed the slower of the two. `plans` hold from the beginning, `changes` (from
    when, plans), in order, from then on. What a link that is cut should carry waits until it is not, and holds up
    nothing else. (TCP would send it again; how long it backs off is not modelled.)
    """

    def __init__(
        self, plans: Sequence[InterfacePlan], changes: Iterable[tuple[float, Sequence[InterfacePlan]]] = ()
    ) -> None:
        states = [(0.0, plans), *changes]
        self._times = [at_s for at_s, _ in states]
        self._plans = [plans for _, plans in states]
        self.up_free_s = [0.0] * len(plans)
        self.down_free_s = [0.0] * len(plans)
        self._arrived_s: dict[tuple[int, int], float] = {}  # where a delay becomes shorter, nothing overtakes

    def depart(self, now_s: float, source: int, to: int, wire_bytes: float) -> tuple[list[Piece], float, float]:
        """What leaves the uplink of `source` now, how many bytes are left behind a cut, and when it is healed (s)."""
        pieces: list[Piece] = []
        time_s, left = max(now_s, self.up_free_s[source]), wire_bytes
        while True:
            number = self._number(time_s)
            plans, next_s = self._plans[number], self._next_s(number)
            path = plans[to].paths[plans[source].address]
            if path.loss_percent == 100:
                return pieces, left, self._healed_s(number, source, to)
            end_s, sent = time_s + _seconds(left, plans[source].up_bps), left
            if end_s > next_s:
                end_s, sent = next_s, _carried(next_s - time_s, plans[source].up_bps)
            first_s = max(time_s + path.delay_ms / 1000, self._arrived_s.get((source, to), 0.0))
            last_s = max(end_s + path.delay_ms / 1000, first_s)
            pieces.append(Piece(first_s, last_s, sent))
            self.up_free_s[source], self._arrived_s[source, to] = end_s, last_s
            if end_s < next_s or sent == left:
                return pieces, 0.0, inf
            time_s, left = end_s, left - sent

    def arrive(self, piece: Piece, to: int) -> float:
        """When the last bit of a piece has passed the downlink of `to`, seconds. Pieces are taken in their order."""
        begin_s, left = piece.first_s, piece.wire_bytes
        while True:
            end_s = min(piece.last_s, self._next_s(self._number(begin_s)))
            part = left
            if end_s < piece.last_s:
                part = piece.wire_bytes * (end_s - begin_s) / (piece.last_s - piece.first_s)
            done_s = max(end_s, self._passed_s(max(begin_s, self.down_free_s[to]), part, to))
            self.down_free_s[to] = done_s
            if end_s >= piece.last_s:
                return done_s
            begin_s, left = end_s, left - part

    def cut_until_s(self, now_s: float) -> float:
        """Until when any link is cut; `now_s` where none is."""
        number = self._number(now_s)
        while any(path.loss_percent == 100 for plan in self._plans[number] for path in plan.paths.values()):
            now_s = self._next_s(number)
            if now_s == inf:
                break
            number += 1
        return now_s

    def _passed_s(self, begin_s: float, wire_bytes: float, to: int) -> float:
        """When the downlink of `to` has passed that much, if it begins then and does nothing else."""
        while True:
            number = self._number(begin_s)
            rate_bps, next_s = self._plans[number][to].down_bps, self._next_s(number)
            end_s = begin_s + _seconds(wire_bytes, rate_bps)
            if end_s <= next_s:
                return end_s
            wire_bytes -= _carried(next_s - begin_s, rate_bps)
            begin_s = next_s

    def _healed_s(self, number: int, source: int, to: int) -> float:
        address = self._plans[number][source].address
        for at_s, plans in zip(self._times[number:], self._plans[number:], strict=True):
            if plans[to].paths[address].loss_percent < 100:
                return at_s
        return inf

    def _number(self, t_s: float) -> int:
        return max(0, bisect_right(self._times, t_s) - 1)

    def _next_s(self, number: int) -> float:
        return self._times[number + 1] if number + 1 < len(self._times) else inf


def _seconds(wire_bytes: float, rate_bps: int | None) -> float:
    return wire_bytes * 8 / rate_bps if rate_bps else 0.0


def _carried(seconds: float, rate_bps: int | None) -> float:
    assert rate_bps is not None  # without a cap, nothing is ever left for later
    return seconds * rate_bps / 8
