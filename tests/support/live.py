"""Four nodes with real agents and live links, and an operator's door to them: no training, but all of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gannet.fabrics.job import LinkChange, NodeInterface
from gannet.fabrics.links.live_links import LiveLinks
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.preflight import choose_engine
from gannet.netem.sandbox import Sandbox
from tests.netem.link_lab import ADDRESSES, Lab

WORLD = len(ADDRESSES)
RING = [(a, (a + step) % WORLD) for a in range(WORLD) for step in (1, 3)]
SLOW = LinkProfile(name="slow", up_bps=4_000_000, down_bps=4_000_000, up_delay_ms=40, down_delay_ms=40)
SWIFT = LinkProfile(name="swift", up_bps=20_000_000, down_bps=20_000_000, up_delay_ms=5, down_delay_ms=5)


class LiveLab(Lab):
    """The laboratory of the link tests with the words of these."""

    def one_way_ms(self, source: int, target: int) -> float:
        """The least delay of a few datagrams, by plain sockets: a busy machine adds to some and takes from none."""
        endpoint = self.endpoint(target)
        self.start_tool(target, "echo", endpoint)
        return min(there for there, _ in json.loads(self.tool(source, "ask", endpoint, 11, 5)))

    def arrived(self, source: int, target: int, count: int = 100) -> list[int]:
        """Which of `count` datagrams arrived, in order."""
        endpoint = self.endpoint(target)
        # Until it has all, or has heard nothing for so long that the sender must have started and be done.
        output = self.start_tool(target, "sink", endpoint, count, 4)
        # The sink waits for ever for its first datagram, so it gets one of its own by the loopback.
        self.tool(target, "send", endpoint, 1, 0)
        self.tool(source, "send", endpoint, count - 1, 2)
        return [number for number, _ in json.loads(output.readline())][1:]


@contextmanager
def live_lab() -> Iterator[LiveLab]:
    """Namespaces and agents, nothing in force."""
    with Sandbox() as sandbox:
        lab = LiveLab(sandbox)
        yield lab
        lab.close()


@contextmanager
def live_links(
    lab: LiveLab, profile: LinkProfile = SWIFT, changes: Sequence[LinkChange] = (), start: bool = True
) -> Iterator[LiveLinks]:
    """Links of four nodes in a ring, their training clock started."""
    interfaces = [NodeInterface(rank, "mesh0", address) for rank, address in enumerate(ADDRESSES)]
    state = LinkState(profile=profile)
    live = LiveLinks(lab.agents, interfaces, state, changes, choose_engine("auto"), seed=1, edges=RING)
    live.apply()
    if start:
        live.start()
    try:
        yield live
    finally:
        live.stop()
        lab.clear()


def lines(live: LiveLinks, event: str | None = "any") -> list[dict[str, Any]]:
    """The ledger's lines so far, of one kind of event (None: readings)."""
    found: list[dict[str, Any]] = []
    while not live.lines.empty():
        line = live.lines.get()
        if isinstance(line, Exception):
            raise line
        found.append(line)
    return [line for line in found if event == "any" or line.get("event") == event]


def wait_for_line(live: LiveLinks, timeout_s: float = 240, **wanted: Any) -> dict[str, Any]:
    """The next line that has these fields."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        line = live.lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
        if isinstance(line, Exception):
            raise line
        if all(line.get(key) == value for key, value in wanted.items()):
            return line
