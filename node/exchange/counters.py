"""Counters of the exchange's traffic, peer by peer: written by the training and gRPC threads, read by any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gannet.node.training.effects import Tag


@dataclass
class PeerCounts:
    """One peer's share of the traffic since `Counters.begin`.

    `sent_bytes`: serialised messages handed to gRPC for it. `received_bytes`: message payloads taken from it.
    `busy_s`: seconds with at least one segment in flight to the peer, from the order to send until the receipt.
    `wait_s`: seconds the training thread was blocked on its messages. `stale_rounds`: rounds since a message of
    its was last in a mix, 0 while none is missing.
    """

    sent_bytes: int = 0
    received_bytes: int = 0
    busy_s: float = 0.0
    wait_s: float = 0.0
    stale_rounds: int = 0


class _Peer:
    def __init__(self, used_rounds: Iterable[int] = ()) -> None:
        self.counts = PeerCounts()
        self.under_way = 0
        self.busy_since_s = 0.0
        self.used_rounds = dict(enumerate(used_rounds))  # by player
        self.stale: dict[int, int] = {}


class Counters:
    """Counts under a lock, so that a reading is of one moment and no counter is ever seen to go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[int, _Peer] = {}
        self._sent_bytes = 0

    def begin(self, peers: Iterable[int], rounds: Sequence[int] = ()) -> None:
        """Count from zero, with an entry for each of `peers`; `sent_bytes` and messages in flight are not reset.

        No peer counts as having missed a round up to those in `rounds`, by player.
        """
        with self._lock:
            before, now_s = self._peers, self._clock()
            self._peers = {peer: _Peer(rounds) for peer in sorted({*peers, *before})}
            for rank, p in before.items():
                self._peers[rank].under_way, self._peers[rank].busy_since_s = p.under_way, now_s

    @property
    def sent_bytes(self) -> int:
        """Serialised exchange messages handed to gRPC since the exchange exists, bytes."""
        return self._sent_bytes

    def read(self) -> dict[int, PeerCounts]:
        """The counts by peer, as of now."""
        with self._lock:
            now_s = self._clock()
            return {
                rank: replace(p.counts, busy_s=p.counts.busy_s + (now_s - p.busy_since_s if p.under_way else 0.0))
                for rank, p in self._peers.items()
            }

    def submitted(self, peer: int) -> None:
        """A segment is in flight to `peer`."""
        with self._lock:
            p = self._peer(peer)
            if p.under_way == 0:
                p.busy_since_s = self._clock()
            p.under_way += 1

    def settled(self, peer: int, segments: int) -> None:
        """`segments` segments have their receipts, or were given up."""
        with self._lock:
            p = self._peer(peer)
            p.under_way -= segments
            if segments and p.under_way == 0:
                p.counts.busy_s += self._clock() - p.busy_since_s

    def sent(self, peer: int, count: int) -> None:
        """`count` bytes of messages for `peer` went to gRPC."""
        with self._lock:
            self._sent_bytes += count
            self._peer(peer).counts.sent_bytes += count

    def received(self, peer: int, tag: Tag, count: int, wait_s: float) -> None:
        """That segment, of `count` bytes, was taken after `wait_s` seconds."""
        with self._lock:
            p = self._peer(peer)
            p.counts.received_bytes += count
            p.counts.wait_s += wait_s
            p.used_rounds[tag.player] = tag.round
            self._grow_stale(p, tag, 0)

    def missed(self, peer: int, tag: Tag, wait_s: float) -> None:
        """That round continues without `peer`, after `wait_s` seconds."""
        with self._lock:
            p = self._peer(peer)
            p.counts.wait_s += wait_s
            self._grow_stale(p, tag, tag.round - p.used_rounds.get(tag.player, 0))

    @staticmethod
    def _grow_stale(p: _Peer, tag: Tag, rounds: int) -> None:
        """Where players are exchanged separately, the staleness of the worst one counts."""
        p.stale[tag.player] = rounds
        p.counts.stale_rounds = max(p.stale.values())

    def _peer(self, rank: int) -> _Peer:
        return self._peers.setdefault(rank, _Peer())
