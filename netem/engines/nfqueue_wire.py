"""One source's path in engine nfqueue: decides what happens to each packet, and holds the packets in flight.

The order of decisions is sch_netem's: first whether a packet is lost (Gilbert-Elliott: the state advances, and the
loss follows from the state before), then whether it is corrupt, then whether it skips the delay. Packets that do not
skip it keep their order, as their jitter does (see gannet.netem.links.jitter), unless the path says `jitter_order:
reorder`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from socket import htonl, ntohl
from typing import Any

from gannet.netem.engines.nfqueue_socket import HEADER_BYTES, WHOLE_BYTES, QueueSocket, queue_key
from gannet.netem.links.jitter import InOrder, least, sampler
from gannet.netem.links.plan import PathPlan

_IDEAL = PathPlan()


class Wire:
    """A path and its NFQUEUE. Each kind of draw has its own random stream, so that none shifts another."""

    def __init__(self, sock: QueueSocket, queue: int, seed: str) -> None:
        self.key = queue_key(queue)
        self.lost = 0
        self.due_s: deque[float] = deque()
        self.packets: deque[int] = deque()
        # Packets to be delivered with changed content, by number.
        self.altered: dict[int, bytearray] = {}
        self._socket, self._queue = sock, queue
        self._last_due_s = 0.0
        self._bad = self._copied = False
        self._loss, self._jitter, self._other = (Random(f"{seed}: {kind}") for kind in ("loss", "jitter", "other"))
        self._in_order: InOrder | None = None
        self._mixed = False  # packets may be due in another order than they came
        self._configured: tuple[int, bool, int] | None = None
        self.set(_IDEAL)

    def configure(self, maxlen: int, path: PathPlan) -> list[tuple[int, int]]:
        """Set the queue and the path; returns packets (queue key, packet) that arrived meanwhile."""
        # Segments must be lost one by one: a lossy path gets its packets split, others may keep them whole.
        lossy = 0 < path.any_loss_percent < 100
        copied = WHOLE_BYTES if path.corrupt_percent else HEADER_BYTES if lossy else 0
        wanted = (maxlen, path.is_whole and not path.reorder_percent, copied)
        announced = []
        if wanted != self._configured:
            announced = self._socket.configure(self._queue, *wanted, bind=self._configured is None)
            self._configured = wanted
        self._copied = copied > 0
        self.set(path)
        return announced

    def set(self, path: PathPlan) -> None:
        """Set what happens to packets from now on; those in flight keep their due times."""
        self.plain = path.is_plain
        self.delay_s, self._jitter_s = path.delay_ms / 1000, path.jitter_ms / 1000
        self._lossy = path.loss_percent / 100
        bursts = path.bursts
        if bursts is None:
            self._chain = None
            self._bad = False
        else:
            self._chain = tuple(
                share / 100
                for share in (
                    bursts.good_to_bad_percent,
                    bursts.bad_to_good_percent,
                    bursts.loss_in_bad_percent,
                    bursts.loss_in_good_percent,
                )
            )
        self._reorder, self._corrupt = path.reorder_percent / 100, path.corrupt_percent / 100
        # No packet is due sooner than this; one that skips the delay is due at once.
        self.least_delay_s = 0.0 if path.reorder_percent else self.delay_s
        if path.jitter_ms:
            least_s = self.delay_s + self._jitter_s * least(path.jitter_distribution)
            self.least_delay_s = min(self.least_delay_s, max(0.0, least_s))
        self._reorders = path.reorders
        self._mixed = self._reorders or (self._mixed and bool(self.packets))
        self._draw: Callable[[], float] | None = None
        if self._reorders:
            self._draw = sampler(path.jitter_distribution, path.jitter_correlation_percent / 100, self._jitter)
        if not path.jitter_ms or self._reorders:
            self._in_order = None
            return
        if self._in_order is None or self._in_order.distribution != path.jitter_distribution:
            self._in_order = InOrder(path.jitter_distribution, self._jitter)
        self._in_order.set(self._jitter_s)  # continues where it is: a ramp's steps are no jumps

    def hasten(self, now_s: float) -> None:
        """Have the packets in flight arrive within the present delay from now, in order."""
        latest_s = now_s + self.delay_s
        self.due_s = deque(min(due_s, latest_s) for due_s in self.due_s)
        self._last_due_s = min(self._last_due_s, latest_s)

    def accept(self, packet: int, arrival_s: float, slot: int | None = None) -> bool:
        """Put a packet on the wire, where it may be lost. Returns whether it is now the first to be due."""
        due_s = arrival_s + self.delay_s
        if not self.plain:
            # What came in fragments arrives only if each of them does, and as it was sent if each does.
            frames = 1 if slot is None or not self._copied else self._socket.frames(slot)
            lost = False
            for _ in range(frames):
                lost |= self._is_lost()
            if lost:
                self._socket.drop(self.key, packet)
                self.lost += 1
                return False
            if (
                self._corrupt
                and slot is not None
                and any(self._other.random() < self._corrupt for _ in range(frames))
            ):
                self._flip_a_bit(packet, slot)
            if self._reorder and self.delay_s and self._other.random() < self._reorder:
                self._socket.accept(self.key, packet, self.altered.pop(packet, b""))
                return False
            if self._in_order is not None:
                due_s = max(arrival_s, due_s + self._in_order.at(arrival_s))
            elif self._draw is not None:
                due_s = max(arrival_s, due_s + self._jitter_s * self._draw())
                if due_s < self._last_due_s:
                    place = bisect_right(self.due_s, due_s)
                    self.due_s.insert(place, due_s)
                    self.packets.insert(place, packet)
                    return place == 0
        if due_s < self._last_due_s:
            due_s = self._last_due_s
        self._last_due_s = due_s
        self.due_s.append(due_s)
        self.packets.append(packet)
        return len(self.packets) == 1

    def _is_lost(self) -> bool:
        lost = self._lossy > 0 and self._loss.random() < self._lossy
        if self._chain is not None and self._lossy < 1:
            to_bad, to_good, in_bad, in_good = self._chain
            was_bad = self._bad
            if self._loss.random() < (to_good if was_bad else to_bad):
                self._bad = not was_bad
            share = in_bad if was_bad else in_good
            if share > 0 and self._loss.random() < share:
                lost = True
        return lost

    def _flip_a_bit(self, packet: int, slot: int) -> None:
        """Flip a bit behind the IP header, whose checksum the kernel has verified already: TCP or UDP detects it."""
        payload = self._socket.payload(slot)
        begin = 4 * (payload[0] & 0xF) if payload else 0
        if begin < len(payload):
            bit = self._other.randrange(8 * begin, 8 * len(payload))
            payload[bit // 8] ^= 1 << bit % 8
            self.altered[packet] = payload

    def release_until(self, until_s: float) -> list[float]:
        """Let all packets pass that are due by `until_s`; returns their due times."""
        due_s, packets, passed = self.due_s, self.packets, list[float]()
        packet, waiting = 0, False
        while due_s and due_s[0] <= until_s:
            passed.append(due_s.popleft())
            packet, waiting = packets.popleft(), True
            if self._mixed:
                self._socket.accept(self.key, packet, self.altered.pop(packet, b""))
                waiting = False
            elif self.altered and packet in self.altered:
                if len(passed) > 1:  # earlier ones first, in order; a queue's packet numbers count up
                    self._socket.accept_through(self.key, _before(packet))
                self._socket.accept(self.key, packet, self.altered.pop(packet))
                waiting = False
        if waiting:
            self._socket.accept_through(self.key, packet)
        if not packets:
            self._mixed = self._reorders
        return passed


def _before(packet: int) -> int:
    """The number before a packet's; both are in network byte order."""
    return htonl((ntohl(packet) - 1) & 0xFFFFFFFF)


def read_path(order: Mapping[str, Any]) -> PathPlan:
    """The path in one of the engine's requests, which also names queue and maxlen."""
    return PathPlan.from_json({name: value for name, value in order.items() if name not in ("queue", "maxlen")})
