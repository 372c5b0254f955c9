"""What the link monitor says while a session trains: passed on at once, and nodes whose links nobody watches."""

from __future__ import annotations

import time
from collections.abc import Collection

from gannet.fabrics.job import Sink
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.session.findings import Findings
from gannet.fabrics.session.node_host import Failed

_UNWATCHED_S = 20.0  # for a node's loss to show after its agent's
_ROUTINE = ("configured", "series")  # events that follow from the spec


class LinkWatch:
    """A node whose agent is gone must be gone itself, or get another agent, or be given up."""

    def __init__(self, live: LiveLinks, sink: Sink, findings: Findings) -> None:
        self._live, self._sink, self._findings = live, sink, findings
        self._unwatched: dict[int, tuple[float, str]] = {}  # since when (monotonic s), and why

    def look(self, alive: Collection[int]) -> dict[int, str]:
        """Pass on the lines since the last call; returns which nodes train over links that nobody watches, and why.

        Raises Failed where nothing is watched any more.
        """
        news = False
        while not self._live.lines.empty():
            line = self._live.lines.get()
            if isinstance(line, Exception):
                raise Failed(f"the links are no longer watched: {line}")
            if line.get("event") == "agent-lost":
                self._unwatched[line["node"]] = (time.monotonic(), line["detail"])
            elif line.get("event") == "agent-restarted":
                self._unwatched.pop(line["node"], None)
            self._sink.links(line)
            news |= "event" in line and line["event"] not in _ROUTINE
        self._findings.look(at_once=news)
        now = time.monotonic()
        return {
            rank: f"its links are no longer watched: {why}"
            for rank, (since, why) in self._unwatched.items()
            if rank in alive and now - since > _UNWATCHED_S
        }
