"""A network without training: namespaces with applied links, held for any programs that enter them.

The node host, the links and the operator API are those of a run (gannet.fabrics.namespaces.hosts,
gannet.fabrics.links.live_links, gannet.fabrics.links.operator_server), so that `gannet net show`, `apply`,
`partition` and the rest work on it as they do on a run. Programs enter by gannet.fabrics.namespaces.exec.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from gannet.fabrics import addresses as layout
from gannet.fabrics.job import LinkChange
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.operator_server import Operator, local_socket
from gannet.fabrics.namespaces.hosts import NodeNamespaces
from gannet.fabrics.namespaces.ip import ip
from gannet.fabrics.namespaces.sandbox import inside
from gannet.fabrics.signals import ignore_signals, note_signals
from gannet.netem.links.plan import Edge
from gannet.netem.links.stack import Stack
from gannet.netem.links.state import LinkState
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import measure_links

# Up to this size every pair of nodes is measured in full; beyond it, neighbours on a ring, and all others by a few
# echoes: pairs grow with the square.
_MOST_ALL_PAIRS = 8
_LOOK_S = 0.1


@dataclass(frozen=True)
class Network:
    """The network to hold: `world` nodes, the links between them, and their changes. `seed`: of the links."""

    name: str
    world: int
    engine: str
    links: LinkState = field(default_factory=LinkState)
    changes: tuple[LinkChange, ...] = ()
    seed: int = 1
    stack: Stack = field(default_factory=Stack)

    @property
    def pairs(self) -> list[Edge]:
        """All directed links."""
        ranks = range(self.world)
        return [(a, b) for a in ranks for b in ranks if a != b]

    @property
    def edges(self) -> list[Edge]:
        """The directed links that are measured in full and watched."""
        if self.world <= _MOST_ALL_PAIRS:
            return self.pairs
        ranks = range(self.world)
        return sorted((a, (a + step) % self.world) for a in ranks for step in (1, self.world - 1))


class BareNetwork:
    """Use as a context manager, inside a sandbox: namespaces, agents and links exist while it is entered.

    RuntimeError where the links cannot be applied. `run` is its name where runs are listed.
    """

    def __init__(self, network: Network) -> None:
        if not inside():
            raise RuntimeError(
                "a network of namespaces needs a sandbox: call gannet.fabrics.namespaces.sandbox.enter() first"
            )
        self.network = network
        self.run = f"up/{network.name}/{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self._namespaces = NodeNamespaces(self.run)
        self._live: LiveLinks | None = None
        self._operator: Operator | None = None
        self._noted: list[int] = []

    def __enter__(self) -> BareNetwork:
        network = self.network
        try:
            ip(layout.build_hub())
            self._namespaces.build(network.world)
            self._live = LiveLinks(
                self._namespaces.agents,
                self._namespaces.interfaces,
                network.links,
                network.changes,
                network.engine,
                network.seed,
                network.edges,
                network.stack,
                self._namespaces.core,
            )
            self._live.apply()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._take_down()

    def certify(self) -> Certificate:
        """Measure the links while nothing else uses them; see gannet.netem.measure.certify.measure_links."""
        assert self._live is not None
        agents, network = dict(enumerate(self._namespaces.agents)), self.network
        return measure_links(agents, self._live.plans, network.edges, network.pairs)

    def open(self) -> str:
        """Let operators and programs in, and begin the schedule; returns the operators' address.

        From now on signals do not interrupt: `hold` waits for them.
        """
        assert self._live is not None
        self._noted = note_signals()
        self._operator = Operator()
        (address,) = self._operator.serve([local_socket()])
        self._live.start()
        self._operator.attach(self.run, self._live)
        return address

    def hold(self, say: Callable[[dict[str, Any]], None]) -> None:
        """Stay up until SIGINT, SIGTERM or SIGHUP; `say` receives events of the links, as in a run folder.

        Raises RuntimeError when the links are no longer watched.
        """
        assert self._live is not None
        while True:
            over = bool(self._noted)
            while not self._live.lines.empty():
                line = self._live.lines.get()
                if isinstance(line, Exception):
                    raise RuntimeError(f"the links are no longer watched: {line}") from line
                say(line)
            if over:
                return
            time.sleep(_LOOK_S)

    def reasons(self) -> list[str]:
        """Reasons to distrust the links since they were opened; complete only after the end."""
        return [] if self._live is None else self._live.reasons()

    def _take_down(self) -> None:
        # The kernel removes it all with the sandbox; here it is done in order, so that no agent reports a failure.
        with ignore_signals():
            if self._operator is not None:
                self._operator.detach()
                self._operator.close()
            if self._live is not None:
                self._live.stop()
            self._namespaces.remove()
