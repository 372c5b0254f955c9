"""Watches the round trips to a node's peers while something else uses the links.

A thread of the agent sends each peer's probe server (gannet.netem.agent.probe) one small echo now and then. An echo
is a frame of 70 bytes each way, and nothing waits for it.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from time import monotonic, monotonic_ns

from gannet.netem.agent.probe import ECHO, HEADER, PORT, REPLY
from gannet.netem.process import precise_timers, raise_priority


class Watch:
    """Echoes to `peers` (IPv4 addresses) from `source`, one each every `interval_s`, until `close`."""

    def __init__(self, source: str, peers: Sequence[str], interval_s: float, port: int = PORT) -> None:
        self._peers, self._interval_s, self._port = list(peers), interval_s, port
        self._run = int.from_bytes(os.urandom(4))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.setblocking(False)
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._rtt_ms: dict[str, list[float]] = {}
        self._thread = threading.Thread(target=self._echo, name="watch", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, float]:
        """The median round trip to each peer that has answered since the last call, ms."""
        with self._lock:
            found, self._rtt_ms = self._rtt_ms, {}
        return {peer: median(values) for peer, values in found.items()}

    def close(self) -> None:
        """End the thread."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._socket.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _echo(self) -> None:
        precise_timers()
        raise_priority(5)  # this thread only: its own wait for a CPU is no part of a round trip
        begin_s, sent, gap_s = monotonic(), 0, self._interval_s / max(1, len(self._peers))
        while True:
            wait_s = begin_s + sent * gap_s - monotonic() if self._peers else None
            arriving, wake = self._socket.fileno(), self._wake_read
            ready = select.select([arriving, wake], [], [], wait_s and max(0.0, wait_s))[0]
            if wake in ready:
                return
            if arriving in ready:
                self._receive()
            elif self._peers:
                echo = HEADER.pack(ECHO, self._run, sent & 0xFFFFFFFF, monotonic_ns(), 0)
                with suppress(OSError):  # no route, or a full buffer: no answer will come, which is the result
                    self._socket.sendto(echo, (self._peers[sent % len(self._peers)], self._port))
                sent += 1

    def _receive(self) -> None:
        with suppress(OSError):  # an earlier echo's error may be reported here
            data, (peer, _) = self._socket.recvfrom(2048)
            now_ns = monotonic_ns()
            if len(data) < HEADER.size:
                return
            kind, run, _, departure_ns, _ = HEADER.unpack_from(data)
            if kind == REPLY and run == self._run and peer in self._peers:
                with self._lock:
                    self._rtt_ms.setdefault(peer, []).append((now_ns - departure_ns) / 1e6)
