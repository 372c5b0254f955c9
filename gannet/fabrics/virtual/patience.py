"""Deadlines of waits on the virtual fabric, and how a node that hangs is found out, as a session does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Protocol

from gannet.fabrics.links.silent_links import SilentLinks
from gannet.fabrics.session.wait_graph import WaitGraph
from gannet.fabrics.virtual.clock import Timeline, Timer
from gannet.fabrics.virtual.faults import Kill
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.fabrics.virtual.node import Node
from gannet.node.config import ExchangeConfig
from gannet.node.exchange.async_mailbox import AsyncMailbox
from gannet.node.training.effects import Arrival, PeerLost, Tag


class Surroundings(Protocol):
    """The simulation as its waits see it."""

    time: Timeline
    nodes: list[Node]
    links: LinkModel[Any]
    silent_links: SilentLinks

    def resume(self, node: Node, answer: Any, lost: Exception | None) -> None:
        """Have a node continue with what it has waited for."""
        ...

    def strike(self, fault: Kill) -> None:
        """End a node."""
        ...


class Patience:
    """The waits of all nodes, and whom they suspect."""

    def __init__(self, fabric: Surroundings, limits: ExchangeConfig) -> None:
        self._fabric, self._limits = fabric, limits
        self._graph = WaitGraph()
        self._given_up: set[int] = set()

    def moves(self, rank: int) -> None:
        """A node has made a step, or is gone: it no longer waits."""
        self._graph.moves(rank)

    def readmit(self, rank: int) -> None:
        """A node that was given up is back."""
        self._given_up.discard(rank)

    def expect(self, node: Node, source: int, tag: Tag, tell: Callable[[memoryview | PeerLost], None]) -> None:
        """Call `tell` when a message comes or cannot come, with the deadlines of a wait."""
        timers: list[Timer] = []
        settled: list[bool] = []
        time, limits = self._fabric.time, self._limits

        def settle(outcome: memoryview | PeerLost) -> None:
            settled.append(True)
            time.cancel(timers)
            tell(outcome)

        node.mailbox.expect(source, tag, settle)
        if settled:
            return
        reason = f"no message within {limits.round_deadline_s:.1f} s"

        def set_timer(wait_s: float, action: Callable[[], None]) -> None:
            timers.append(time.after(wait_s, partial(notice, action)))

        def notice(action: Callable[[], None]) -> None:
            if (stands_s := node.paused_until_s - time.now_s) > 0:  # what arrives meanwhile is taken first
                set_timer(stands_s, action)
            else:
                action()

        set_timer(limits.patience_s, partial(self._grow_impatient, node, source))
        set_timer(limits.round_deadline_s, partial(node.mailbox.give_up, source, tag, reason))

    def receive(self, node: Node, source: int, tag: Tag) -> None:
        """Have a node continue with a message, or with why it cannot come."""
        since_s = self._fabric.time.now_s

        def settle(outcome: memoryview | PeerLost) -> None:
            node.meter.wait_s += self._fabric.time.now_s - since_s
            lost = outcome if isinstance(outcome, PeerLost) else None
            answer = None if lost else outcome
            self._fabric.time.after(0.0, lambda: self._fabric.resume(node, answer, lost))

        self.expect(node, source, tag, settle)

    def receive_first(self, node: Node, wanted: Sequence[tuple[int, Tag]]) -> None:
        """Have a node continue with the first of several messages."""
        since_s = self._fabric.time.now_s

        def tell(number: int, outcome: memoryview | PeerLost) -> None:
            node.meter.wait_s += self._fabric.time.now_s - since_s
            self._fabric.time.after(0.0, partial(self._fabric.resume, node, (number, outcome), None))

        node.first_of.first(wanted, tell)

    def collect(self, node: Node) -> None:
        """Have a node continue with whatever arrives, or with nothing at the deadline."""
        assert isinstance(node.mailbox, AsyncMailbox)
        since_s = self._fabric.time.now_s

        def settle(arrivals: list[Arrival]) -> None:
            self._fabric.time.cancel([deadline])
            node.meter.wait_s += self._fabric.time.now_s - since_s
            self._fabric.time.after(0.0, partial(self._fabric.resume, node, arrivals, None))

        deadline = self._fabric.time.after(self._limits.round_deadline_s, node.mailbox.stop_waiting)
        node.mailbox.collect(settle)

    def _grow_impatient(self, node: Node, source: int) -> None:
        """A node has run out of patience: the node that all wait for gets a little longer."""
        self._graph.waits(node.rank, source)
        self._fabric.silent_links.waits(node.rank, source, node.steps + 1, self._fabric.time.now_s)
        culprit = self._graph.culprit(node.rank)
        if culprit is not None:
            step = self._fabric.nodes[culprit].steps
            self._fabric.time.after(self._limits.patience_s / 4, partial(self._judge, culprit, step))

    def _judge(self, rank: int, step: int) -> None:
        """Give up a node that has neither moved nor waited since it was suspected (see
        gannet.fabrics.session.wait_graph).

        No node is judged while links are cut: a node behind a cut link cannot be told from one that hangs.
        """
        suspect, now_s = self._fabric.nodes[rank], self._fabric.time.now_s
        if suspect.steps > step or suspect.done or self._graph.waiting(rank) or rank in self._given_up:
            return
        if (healed_s := self._fabric.links.cut_until_s(now_s)) > now_s:
            if healed_s < inf:
                self._fabric.time.at(healed_s + self._limits.patience_s / 4, partial(self._judge, rank, step))
            return
        self._given_up.add(rank)
        self._fabric.strike(Kill(rank, now_s))
