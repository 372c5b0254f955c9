"""Says at once over which links no messages come: those configured to lose all, and those that steps report.

A node that gossips trains on without a message that has not come; the run would only say at its end that messages
were missing. Each link is told once before training, where its plan lets nothing through and training begins all the
same (on a model of the links; real ones open no connection), once when a node has waited long for a message, and once
when the first one is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import TYPE_CHECKING

from gannet.fabrics.job import Sink
from gannet.netem.links.plan import InterfacePlan

if TYPE_CHECKING:
    from gannet.netem.measure.certificate import Certificate
    from gannet.node.training.meter import StepStats

_ALL_PERCENT = 100.0
_NAMED = 6


def _loses_all(plans: Sequence[InterfacePlan], src: int, dst: int) -> bool:
    return plans[dst].paths[plans[src].address].any_loss_percent >= _ALL_PERCENT


def dead_links(edges: Collection[tuple[int, int]], plans: Sequence[InterfacePlan]) -> str:
    """Which links between the ends of `edges` lose everything by the plans of all nodes, by rank; "" for none."""
    ways = sorted({*edges, *((dst, src) for src, dst in edges)})
    dead = [f"{src} → {dst}" for src, dst in ways if _loses_all(plans, src, dst)]
    if not dead:
        return ""
    more = f" and {len(dead) - _NAMED} more" if len(dead) > _NAMED else ""
    return f"link {', '.join(dead[:_NAMED])}{more} lose{'s' * (len(dead) == 1)} every packet"


def unanswered_link(measured: Certificate, plans: Sequence[InterfacePlan]) -> str:
    """The link over which nothing has come back while links were measured, in words; "" where there is none.

    On links that lose less than half of the packets, each way, at least one of forty probes should come back.
    """
    for edge in measured.edges:
        back = plans[edge.src].paths[plans[edge.dst].address].any_loss_percent
        if edge.delay_p50_ms is None and max(edge.expected_loss_percent, back) < _ALL_PERCENT / 2:
            return f"the link from node {edge.src} to node {edge.dst}"
    return ""


class SilentLinks:
    """Tells `sink` of silent links, in lines of the event "silent-link"; `edges`: those that training uses."""

    def __init__(self, sink: Sink, edges: Collection[tuple[int, int]]) -> None:
        self._sink, self._edges = sink, sorted(edges)
        self._known: set[tuple[int, int]] = set()
        self._awaited: set[tuple[int, int]] = set()

    def begin(self, plans: Sequence[InterfacePlan], t_s: float) -> None:
        """Tell which links the plans of all nodes, by rank, let nothing through when training begins."""
        for src, dst in self._edges:
            if _loses_all(plans, src, dst):
                self._tell(src, dst, t_s, "loses every packet from the start, as configured")

    def step(self, rank: int, stats: StepStats, lost: Container[int]) -> None:
        """Take in a node's step; messages of lost nodes are missing for that reason."""
        for src in stats.missing:
            if src not in lost and (src, rank) not in self._known:
                self._known.add((src, rank))
                message = f"the message of node {src}, which did not come in time for step {stats.step}"
                what = f"node {rank} trains without {message}"
                self._tell(src, rank, stats.t_s, what)

    def waits(self, rank: int, src: int, step: int, t_s: float) -> None:
        """Take in that a node has run out of patience with a peer's message, well before it gives the message up."""
        if (src, rank) not in self._awaited | self._known:
            self._awaited.add((src, rank))
            self._tell(src, rank, t_s, f"node {rank} still waits for the message of node {src} for step {step}")

    def _tell(self, src: int, dst: int, t_s: float, what: str) -> None:
        line = {"t_s": t_s, "event": "silent-link", "src": src, "dst": dst}
        self._sink.links({**line, "detail": f"link {src} → {dst}: {what}"})
