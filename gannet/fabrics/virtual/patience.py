"""Deadlines of waits on the virtual fabric, and how a node that hangs is found out, as a session does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


# When, in which place of the order of timers, and what.
_Due = tuple[float, int, Callable[[], None]]


def _moment(due: _Due) -> tuple[float, int]:
    return due[:2]


class _Wait:
    """A wait for a message: its timers end with it."""

    __slots__ = ("_tell", "_time", "settled", "timers")

    def __init__(self, time: Timeline, tell: Callable[[memoryview | PeerLost], None]) -> None:
        self._time, self._tell, self.settled = time, tell, False
        self.timers: list[Timer] = []

    def settle(self, outcome: memoryview | PeerLost) -> None:
        self.settled = True
        if self.timers:
            self._time.cancel(self.timers)
        self._tell(outcome)


class Patience:
    """The waits of all nodes, and whom they suspect."""

    def __init__(self, fabric: Surroundings, limits: ExchangeConfig, begin_s: float) -> None:
        self._fabric, self._limits, self._begin_s = fabric, limits, begin_s
        self._graph = WaitGraph()
        self._given_up: set[int] = set()
        self._told: set[int] = set()  # who has said in its present step that it waits

    def moves(self, rank: int) -> None:
        """A node has made a step, or is gone: it no longer waits."""
        self._graph.moves(rank, self._fabric.time.now_s)
        self._told.discard(rank)

    def stood_still(self, rank: int) -> None:
        """A node continues after a meeting."""
        self._graph.stood_still(rank, self._fabric.time.now_s)
        self._told.discard(rank)

    def readmit(self, rank: int) -> None:
        """A node that was given up is back."""
        self._given_up.discard(rank)

    def expect(self, node: Node, source: int, tag: Tag, tell: Callable[[memoryview | PeerLost], None]) -> None:
        """Call `tell` when a message comes or cannot come, with the deadlines of a wait."""
        wait = _Wait(self._fabric.time, tell)
        node.mailbox.expect(source, tag, wait.settle)
        if not wait.settled:
            reason = f"no message within {self._limits.round_deadline_s:.1f} s"
            self.watch(node, source, partial(node.mailbox.give_up, source, tag, reason), wait.timers)

    def watch(self, node: Node, peer: int, give_up: Callable[[], None], timers: list[Timer]) -> None:
        """Set the timers of a wait for `peer`, which ends with `give_up` at the deadline: those of the node's reports
        (see gannet.node.exchange.impatience) and of the deadline. All that is in `timers` ends with the wait.
        """
        time, limits = self._fabric.time, self._limits
        now_s, due = time.now_s, list[_Due]()
        if node.rank not in self._told:
            wait_s = max(0.0, self._due_s(node.rank) - now_s)
            due.append((now_s + wait_s, time.number(), partial(self._note, node, peer)))
        due.append((now_s + limits.patience_s, time.number(), partial(self._grow_impatient, node, peer)))
        due.append((now_s + limits.round_deadline_s, time.number(), give_up))
        due.sort(key=_moment)
        self._set_next(node, iter(due), timers)

    def _set_next(self, node: Node, due: Iterator[_Due], timers: list[Timer]) -> None:
        """Set the first of these timers; it sets the next. Most waits end before their first, and need no other."""
        if (first := next(due, None)) is not None:
            t_s, number, action = first

            def notice() -> None:
                self._set_next(node, due, timers)
                self._notice(node, action, timers)

            timers.append(self._fabric.time.at(t_s, notice, number))

    def _notice(self, node: Node, action: Callable[[], None], timers: list[Timer]) -> None:
        """Run the action of a timer, later where the node stands still: what arrives meanwhile is taken first."""
        if (stands_s := node.paused_until_s - self._fabric.time.now_s) > 0:
            timers.append(self._fabric.time.after(stands_s, partial(self._notice, node, action, timers)))
        else:
            action()

    def receive(self, node: Node, source: int, tag: Tag) -> None:
        """Have a node continue with a message, or with why it cannot come."""
        self.expect(node, source, tag, partial(self._received, node, self._fabric.time.now_s))

    def _received(self, node: Node, since_s: float, outcome: memoryview | PeerLost) -> None:
        time = self._fabric.time
        node.meter.wait_s += time.now_s - since_s
        lost = outcome if isinstance(outcome, PeerLost) else None
        time.after(0.0, partial(self._fabric.resume, node, None if lost else outcome, lost))

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

    def _due_s(self, rank: int) -> float:
        """Until when a node must have moved or said that it waits, if it is well."""
        return max(self._begin_s + self._limits.patience_s, self._graph.due_s(rank, self._limits.patience_s))

    def _note(self, node: Node, source: int) -> None:
        """A node's step has lasted for its patience, and it waits, if only since just now."""
        if node.rank not in self._told:
            self._told.add(node.rank)
            self._graph.waits(node.rank, source)

    def _grow_impatient(self, node: Node, source: int) -> None:
        """A node has run out of patience: the node that all wait for gets a little longer."""
        self._told.add(node.rank)
        self._graph.waits(node.rank, source)
        self._fabric.silent_links.waits(node.rank, source, node.steps + 1, self._fabric.time.now_s)
        culprit = self._graph.culprit(node.rank)
        if culprit is not None:
            step, from_s = self._fabric.nodes[culprit].steps, max(self._due_s(culprit), self._fabric.time.now_s)
            self._fabric.time.at(from_s + self._limits.patience_s / 4, partial(self._judge, culprit, step))

    def _judge(self, rank: int, step: int) -> None:
        """Give up a node that has neither moved nor waited since it was suspected (see
        gannet.fabrics.session.wait_graph).

        No node is judged while links are cut: a node behind a cut link cannot be told from one that hangs.
        """
        suspect, now_s = self._fabric.nodes[rank], self._fabric.time.now_s
        moves = suspect.steps > step or suspect.done or suspect.at_meeting
        if moves or self._graph.waiting(rank) or rank in self._given_up:
            return
        if (healed_s := self._fabric.links.cut_until_s(now_s)) > now_s:
            if healed_s < inf:
                self._fabric.time.at(healed_s + self._limits.patience_s / 4, partial(self._judge, rank, step))
            return
        self._given_up.add(rank)
        self._fabric.strike(Kill(rank, now_s))
