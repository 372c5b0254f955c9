"""The process that carries out jitter in order for engine netem: it changes the delay of netem qdiscs in small steps.

netem itself can draw each packet's delay, which puts packets out of order, or have each wait for the one before,
which adds delay. So the delay follows the process of gannet.netem.links.jitter.InOrder, as in engine nfqueue, in
steps of 5 ms: short against the 88 ms and more that it takes to rise and fall. The kernel makes such a change in
microseconds, and keeps the packets in flight. Requests come as JSON lines on stdin (`paths`); the end of stdin ends
the process.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from math import inf
from random import Random
from time import monotonic
from typing import Any

from gannet.netem.child import Answers
from gannet.netem.engines import netlink
from gannet.netem.links.jitter import InOrder
from gannet.netem.process import die_with_parent, precise_timers, raise_priority

# A step of a source takes some 20 µs: of many, steps are longer, so that all of them take a fortieth of the time.
_STEP_S, _STEP_PER_SOURCE_S = 0.005, 0.0008
_TOGETHER = 200  # changes in one message


class Stepper:
    """The netem qdiscs of one interface whose delay changes, and the requests from stdin."""

    def __init__(self) -> None:
        self.socket = netlink.open_socket()
        self.socket.setblocking(False)
        self.port_id: int = self.socket.getsockname()[0]
        self.index = 0
        self.paths: dict[str, dict[str, Any]] = {}
        self.jitter: dict[str, InOrder] = {}

    def set_paths(self, order: dict[str, Any]) -> dict[str, Any]:
        """Step {source: {handle, parent, limit, delay_ms, jitter_ms, …}} on `device` from now on, and no others.

        Those without jitter get their delay once.
        """
        self.index = socket.if_nametoindex(order["device"])
        self._send([self._change(path, path["delay_ms"] / 1000) for path in order["paths"].values()])
        self.paths = {source: path for source, path in order["paths"].items() if path["jitter_ms"]}
        for source, path in self.paths.items():
            jitter = self.jitter.get(source)
            if jitter is None or jitter.distribution != path["jitter_distribution"]:
                draws = Random(f"{order['seed']}: {source} to {order['address']}: jitter")
                jitter = self.jitter[source] = InOrder(path["jitter_distribution"], draws)
            jitter.set(path["jitter_ms"] / 1000)
        self.jitter = {source: self.jitter[source] for source in self.paths}
        self.step(monotonic(), self.step_s)
        return {"port_id": self.port_id}

    @property
    def step_s(self) -> float:
        """Seconds from step to step."""
        return max(_STEP_S, _STEP_PER_SOURCE_S * len(self.paths)) if self.paths else inf

    def step(self, now_s: float, step_s: float) -> None:
        """Give every qdisc the delay that it should have in the middle of the time until the next step."""
        middle_s = now_s + step_s / 2
        self._send(
            [
                self._change(path, max(0.0, path["delay_ms"] / 1000 + self.jitter[source].at(middle_s)))
                for source, path in self.paths.items()
            ]
        )

    def _change(self, path: dict[str, Any], delay_s: float) -> bytes:
        return netlink.delay_change(self.index, path["parent"], path["handle"], delay_s, path)

    def _send(self, messages: list[bytes]) -> None:
        for first in range(0, len(messages), _TOGETHER):
            self.socket.send(b"".join(messages[first : first + _TOGETHER]))
        with suppress(BlockingIOError):  # complaints about a qdisc that is no longer there: new ones are being made
            while self.socket.recv(1 << 16):
                pass

    def run(self, orders: int, answers: Callable[[dict[str, Any]], None]) -> None:
        """Step and serve requests until stdin ends."""
        pending, next_s = b"", inf
        while True:
            idle_s = None if next_s == inf else max(0.0, next_s - monotonic())
            if not select.select([orders], [], [], idle_s)[0]:
                now_s, step_s = monotonic(), self.step_s
                self.step(now_s, step_s)
                next_s = max(now_s, next_s) + step_s if now_s - next_s < step_s else now_s + step_s
                continue
            chunk = os.read(orders, 1 << 16)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                try:
                    answers(self.set_paths(json.loads(line)))
                except OSError as error:
                    answers({"error": str(error)})
                next_s = monotonic() + self.step_s


def main(answers: Answers) -> None:
    """Run until stdin ends; the first argument is the process that started this one."""
    die_with_parent(int(sys.argv[1]))
    precise_timers()
    raise_priority(10)
    Stepper().run(sys.stdin.fileno(), answers)
