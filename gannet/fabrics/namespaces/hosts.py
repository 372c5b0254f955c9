"""Network namespaces with a shaped interface and a link agent each: the node host of runs on this machine.

Lives inside a sandbox (see gannet.fabrics.namespaces.sandbox), so that nothing it makes can outlast it. It does not
depend on what happens in the namespaces: nodes are forked into them (gannet.fabrics.namespaces.fabric), or programs
enter (gannet.fabrics.namespaces.standalone).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gannet import logs
from gannet.fabrics import addresses as layout
from gannet.fabrics.job import LinkAgent, NodeInterface
from gannet.fabrics.links.core_links import CoreLinks
from gannet.fabrics.namespaces.ip import ip
from gannet.netem.agent.client import AgentClient


class NamespaceAgent:
    """The link agent of a node's namespace, which can be started again if it ends."""

    def __init__(self, spawn: Callable[[], AgentClient]) -> None:
        self._spawn, self._client = spawn, spawn()
        self.name = self._client.name

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """See AgentClient."""
        return self._client.request(op, timeout_s, **arguments)

    def restart(self) -> None:
        """Start a new process in the place of one that has ended; it knows nothing of the links before it."""
        self._client.close()
        self._client = self._spawn()

    def close(self) -> None:
        """See AgentClient."""
        self._client.close()


class NodeNamespaces:
    """Namespaces `node0`, `node1`, …, made by `build` and removed by `remove`. The hub must be there already."""

    def __init__(self, run: str, logs_in: Path | None = None) -> None:
        """`logs_in`: a folder for the agents' logs; without it they log to standard error, from level warning."""
        self._run, self._logs_in = run, logs_in
        self.core: CoreLinks | None = None
        self.agents: list[LinkAgent] = []
        self.interfaces: list[NodeInterface] = []

    def build(self, world: int) -> None:
        """Make `world` namespaces with an agent each."""
        self.interfaces = [
            NodeInterface(rank, layout.MESH_DEVICE, layout.mesh_address(rank)) for rank in range(world)
        ]
        ip([command for rank in range(world) for command in layout.build_node(rank)])
        ip([command for rank in range(world) for command in layout.build_outside(rank)], check=False)
        self.core = CoreLinks(self._spawn_in_core, [layout.mesh_port(rank) for rank in range(world)])
        for rank in range(world):
            prefix = ("nsenter", f"--net=/run/netns/{layout.node_namespace(rank)}", "--")
            variables = logs.for_child("info" if self._logs_in else "warning", self._run, rank)
            log = self._logs_in / f"agent-{rank}.log" if self._logs_in else None
            self.agents.append(
                NamespaceAgent(partial(AgentClient.spawn, prefix, f"link agent {rank}", variables, log))
            )

    def remove(self) -> None:
        """Take everything down; what is gone already is no error."""
        if self.core is not None:
            self.core.close()
        for agent in self.agents:
            agent.close()
        ip([command for interface in self.interfaces for command in layout.remove_node(interface.rank)], check=False)

    def _spawn_in_core(self) -> AgentClient:
        prefix = ("nsenter", f"--net=/run/netns/{layout.MESH_NAMESPACE}", "--")
        variables = logs.for_child("info" if self._logs_in else "warning", self._run)
        log = self._logs_in / "agent-core.log" if self._logs_in else None
        return AgentClient.spawn(prefix, "the core's link agent", variables, log)
