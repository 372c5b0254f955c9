"""Shared links that are limited where all nodes' links meet, by an agent there (gannet.netem.links.pairs.core)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from gannet.fabrics.job import LinkAgent
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.netem.links.pairs.core import CoreLink, core_links
from gannet.netem.links.plan import InterfacePlan

_APPLY_S = 10.0
_NO_CORE = (
    "a shared link whose pairs have several senders and several receivers is limited where all nodes' links meet, "
    "which this fabric cannot reach: give each receiver a shared link of its own, or use fabric: namespaces"
)


class CoreLinks:
    """Keeps an agent in the core from the first shared link there on. `ports`: where each node's packets enter it, by
    rank; none, and without `spawn`, where the core is out of reach. Not for several threads at once, but for `close`.
    """

    def __init__(self, spawn: Callable[[], LinkAgent] | None = None, ports: Sequence[str] = ()) -> None:
        self._spawn, self._ports = spawn, ports
        self._agent: LinkAgent | None = None
        self._links: tuple[CoreLink, ...] = ()
        self._guard = threading.Lock()

    def apply(self, plans: Sequence[InterfacePlan]) -> dict[int, str]:
        """Limit the shared links of the plans of all nodes; returns what is wrong, by the ranks of receivers."""
        if self._spawn is None:
            return _told(plans, _NO_CORE)
        links = core_links(plans, self._ports)
        if not links and self._agent is None:
            return {}
        self._links = links
        return self._asked(plans, "core")

    def read_back(self, plans: Sequence[InterfacePlan]) -> dict[int, str]:
        """What is wrong with them as they are now, by the ranks of receivers."""
        return self._asked(plans, "core_read_back") if self._agent is not None else {}

    def close(self) -> None:
        """End the agent, which removes what it has applied."""
        with self._guard:
            agent, self._agent, self._spawn = self._agent, None, None
        if agent is not None:
            agent.close()

    def _asked(self, plans: Sequence[InterfacePlan], operation: str) -> dict[int, str]:
        try:
            try:
                answer = self._request(operation)
            except AgentGone:  # what it has applied stays; another one begins with all of it
                if self._agent is not None:
                    self._agent.close()
                self._agent = None
                answer = self._request("core")
        except (AgentError, OSError) as error:
            return _told(plans, str(error))
        return _told(plans, "; ".join(answer["differences"]))

    def _request(self, operation: str) -> dict[str, Any]:
        with self._guard:
            if self._agent is None:
                if self._spawn is None:
                    return {"differences": []}
                self._agent = self._spawn()
            agent = self._agent
        links = {"links": [asdict(link) for link in self._links]} if operation == "core" else {}
        return agent.request(operation, timeout_s=_APPLY_S, **links)


def _told(plans: Sequence[InterfacePlan], what: str) -> dict[int, str]:
    """The complaint at each node that receives over such a link."""
    ranks = [rank for rank, plan in enumerate(plans) if any(limit.at == "core" for limit in plan.shared_in)]
    return dict.fromkeys(ranks, what) if what else {}
