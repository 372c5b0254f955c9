"""The process that delays and drops packets for engine nfqueue: a link's wire, in user space.

The kernel parks every arriving packet in the NFQUEUE of its source and notifies this process; payloads never leave
the kernel, unless some of them are to be corrupted. A packet's due time is its arrival plus the path's delay; where a
source's packets keep their order, one batch verdict releases all that is due. The wires that hold packets wait in
a heap: a packet's cost does not depend on the number of sources. Requests come as JSON lines on stdin (`paths`,
`statistics`, `classes`), answers go to the engine, and the end of stdin releases everything at once.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from time import monotonic
from typing import Any

from gannet.netem.child import Answers
from gannet.netem.engines.nfqueue_socket import BATCH, QueueSocket, mtu_bytes
from gannet.netem.engines.nfqueue_wire import Wire, read_path
from gannet.netem.links.plan import PathPlan
from gannet.netem.process import RunQueue, die_with_parent, precise_timers, raise_priority

# Releasing this much early saves wake-ups on fast links; the accuracy promised is 0.5 ms.
_COALESCE_S = 0.00005
_IDLE_S = 3600.0
# The kernel stamps arrivals, so they need not be read at once: packets that are not due for long may gather, up to
# this share of the shortest delay and this long, and are then read together.
_GATHER_SHARE, _GATHER_S = 0.25, 0.004
# Packets released later than this count as late.
_LATE_S = 0.001


class Lateness:
    """A histogram of how late packets were released: 20 µs steps up to 40 ms, and the maximum."""

    STEPS_PER_S, STEPS = 50_000, 2000

    def __init__(self) -> None:
        self.counts = [0] * (self.STEPS + 1)
        self.max_s = 0.0

    def add(self, due_s: Sequence[float], now_s: float) -> int:
        """Count packets due at these times (ascending) and released now; returns how many are late."""
        latest_s = now_s - due_s[0]
        if latest_s * self.STEPS_PER_S < 1:  # the common case: all of them in the first step
            self.counts[0] += len(due_s)
            self.max_s = max(self.max_s, latest_s)
            return 0
        late = 0
        for due in due_s:
            late_s = max(0.0, now_s - due)
            self.counts[min(self.STEPS, int(late_s * self.STEPS_PER_S))] += 1
            late += late_s > _LATE_S
        self.max_s = max(self.max_s, latest_s)
        return late

    def percentile_ms(self, share: float) -> float:
        """The upper edge of the step that holds this share of the packets; 0 when there were none."""
        rank = share * sum(self.counts)
        seen = 0
        for step, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                return min(1000 * (step + 1) / self.STEPS_PER_S, 1000 * self.max_s)
        return 0.0


class Worker:
    """All wires of one interface, the clock that releases them, and the requests from stdin."""

    def __init__(self, priority: str) -> None:
        self.priority = priority
        self.socket = QueueSocket()
        self.device = ""
        self.wires: dict[str, Wire] = {}
        self.by_key: dict[int, Wire] = {}
        # (due time, queue) of the first packet of every wire that holds any; out of date where it is another's.
        self.next_due: list[tuple[float, int]] = []
        self.lateness = Lateness()
        self.released = self.late = 0
        self.gather_s = 0.0
        self.run_queue = RunQueue()
        self.waited_s = self.reported_waited_s = self.run_queue.waited_s()
        self.longest_wait_s = 0.0

    def set_paths(self, order: dict[str, Any]) -> dict[str, Any]:
        """Apply {source: {queue, maxlen, delay_ms, jitter_ms, …}}; sources not named become ideal.

        With `release`, packets in flight wait no longer than the new delays.
        """
        self.device = order["device"]
        self._learn_mtu()
        for source, path in order["paths"].items():
            wire = self.wires.get(source)
            if wire is None:
                seed = f"{order['seed']}: {source} to {order['address']}"
                wire = self.wires[source] = Wire(self.socket, path["queue"], seed)
                self.by_key[wire.key] = wire
            announced = wire.configure(path["maxlen"], read_path(path))
            now_s = monotonic()
            for key, packet in announced:
                self.accept(self.by_key[key], packet, now_s)
        for source in self.wires.keys() - order["paths"].keys():
            self.wires[source].set(PathPlan())
        if order.get("release"):
            now_s = monotonic()
            for wire in self.wires.values():
                wire.hasten(now_s)
            self.next_due = [(wire.due_s[0], wire.key) for wire in self.wires.values() if wire.due_s]
            heapify(self.next_due)
        least_s = min((wire.least_delay_s for wire in self.wires.values()), default=0.0)
        self.gather_s = min(_GATHER_S, _GATHER_SHARE * least_s)
        return {"priority": self.priority}

    def _learn_mtu(self) -> None:
        with suppress(OSError):  # the interface has gone, and its packets with it
            self.socket.mtu_bytes = mtu_bytes(self.device)

    def classes(self, order: dict[str, Any]) -> dict[str, Any]:
        """Packets that each source's wire has lost, and those that it holds."""
        return {source: {"lost": wire.lost, "held": len(wire.packets)} for source, wire in self.wires.items()}

    def statistics(self, order: dict[str, Any]) -> dict[str, Any]:
        """Counts since the start and lateness since the last call."""
        self._learn_mtu()
        lateness, self.lateness = self.lateness, Lateness()
        waited_s, self.reported_waited_s = self.waited_s - self.reported_waited_s, self.waited_s
        longest_wait_s, self.longest_wait_s = self.longest_wait_s, 0.0
        return {
            "released": self.released,
            "late": self.late,
            "lost": sum(wire.lost for wire in self.wires.values()),
            "overruns": self.socket.overruns,
            "refused_verdicts": self.socket.refused,
            "unstamped": self.socket.unstamped,
            "held": sum(len(wire.packets) for wire in self.wires.values()),
            "late_p50_ms": lateness.percentile_ms(0.5),
            "late_p99_ms": lateness.percentile_ms(0.99),
            "late_max_ms": 1000 * lateness.max_s,
            "run_queue_ms": 1000 * waited_s,
            "run_queue_max_ms": 1000 * longest_wait_s,
            "priority": self.priority,
        }

    def accept(self, wire: Wire, packet: int, arrival_s: float, slot: int | None = None) -> None:
        """Put a packet on its wire, and the wire in the heap."""
        if wire.accept(packet, arrival_s, slot):
            heappush(self.next_due, (wire.due_s[0], wire.key))

    def release_due(self, until_s: float) -> float:
        """Release all packets due by `until_s` on every wire; returns the next due time, or infinity."""
        waiting = self.next_due
        while waiting and waiting[0][0] <= until_s:
            wire = self.by_key[waiting[0][1]]
            if not wire.due_s or wire.due_s[0] != waiting[0][0]:
                heappop(waiting)
                continue
            passed, now_s = wire.release_until(until_s), monotonic()
            self.released += len(passed)
            self.late += self.lateness.add(passed, now_s)
            if wire.due_s:
                heapreplace(waiting, (wire.due_s[0], wire.key))
            else:
                heappop(waiting)
        self.socket.flush()
        return waiting[0][0] if waiting else inf

    def receive(self) -> bool:
        """Read the packets that the kernel announces, with their arrival times; returns whether that was all."""
        by_key, packets = self.by_key, self.socket.receive()
        for slot, key, packet, arrival_s in packets:
            self.accept(by_key[key], packet, arrival_s, slot)
        return len(packets) < BATCH

    def run(self, orders: int, answers: Callable[[dict[str, Any]], None]) -> None:
        """Delay packets and serve requests until stdin ends."""
        handlers = {"paths": self.set_paths, "statistics": self.statistics, "classes": self.classes}
        packets, pending, gathered_s = self.socket.socket.fileno(), b"", 0.0
        while True:
            due_s = self.release_due(monotonic() + _COALESCE_S)
            now_s = monotonic()
            gathering = now_s < gathered_s
            idle_s = max(0.0, min(due_s - now_s, gathered_s - now_s if gathering else _IDLE_S))
            ready = select.select([orders] if gathering else [orders, packets], [], [], idle_s)[0]
            before_s, self.waited_s = self.waited_s, self.run_queue.waited_s()
            self.longest_wait_s = max(self.longest_wait_s, self.waited_s - before_s)
            if packets in ready and self.receive():
                gathered_s = monotonic() + self.gather_s
            if orders not in ready:
                continue
            chunk = os.read(orders, 1 << 16)
            if not chunk:
                self.release_due(inf)
                return
            *lines, pending = (pending + chunk).split(b"\n")
            gathered_s = 0.0  # paths may be shorter now
            for line in lines:
                order = json.loads(line)
                try:
                    answers(handlers[order["op"]](order))
                except OSError as error:
                    answers({"error": str(error)})


def main(answers: Answers) -> None:
    """Run until stdin ends; the first argument is the process that started this one."""
    die_with_parent(int(sys.argv[1]))
    precise_timers()
    worker = Worker(raise_priority(10))
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection would release packets late
    worker.run(sys.stdin.fileno(), answers)
