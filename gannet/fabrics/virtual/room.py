"""Messages ahead of their receiver on the virtual fabric, and senders that wait until it takes more, as on real ones.

A message of a round that its receiver is yet to come near (see gannet.node.exchange.mailbox.Mailbox.is_ahead) is held
until the round's deadline. A sender of which as many rounds are held as ExchangeConfig.window_rounds waits with the
next for one of them to be taken, and has its patience and its deadline with that as with any wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gannet.fabrics.virtual.clock import Timeline, Timer
from gannet.fabrics.virtual.node import Node
from gannet.node.config import ExchangeConfig
from gannet.node.exchange.mailbox import Header
from gannet.node.training.effects import Tag

Deliver = Callable[[Node, Header, memoryview], None]


class Waits(Protocol):
    """The waits of all nodes (see gannet.fabrics.virtual.patience)."""

    def watch(self, node: Node, peer: int, give_up: Callable[[], None], timers: list[Timer]) -> None:
        """Set the timers of a wait for `peer`, which ends with `give_up` at the deadline."""
        ...


class Surroundings(Protocol):
    """The simulation as this sees it."""

    time: Timeline

    @property
    def patience(self) -> Waits:
        """The waits of its nodes."""
        ...


@dataclass(eq=False)
class _Held:
    to: Node
    header: Header
    payload: memoryview
    timers: list[Timer] = field(default_factory=list)


@dataclass(eq=False)
class _Waiting:
    node: Node
    to: int
    tag: Tag
    tell: Callable[[bool], None]
    timers: list[Timer] = field(default_factory=list)


class Room:
    """`deliver` takes a held message once its receiver has come near."""

    def __init__(self, fabric: Surroundings, limits: ExchangeConfig, deliver: Deliver) -> None:
        self._fabric, self._limits, self._deliver = fabric, limits, deliver
        self._held: list[_Held] = []
        self._waiting: list[_Waiting] = []
        self._full: dict[tuple[int, int, int], int] = {}  # by sender, receiver, player: the round that is not sent

    def hold(self, to: Node, header: Header, payload: memoryview) -> None:
        """Keep a message until its receiver comes near its round, and until the deadline at most."""
        held = _Held(to, header, payload)
        held.timers = [self._fabric.time.after(self._limits.round_deadline_s, partial(self._end, held))]
        self._held.append(held)
        to.mailbox.on_round = self._look_soon

    def lose(self, rank: int) -> None:
        """A node has ended: nothing of it or to it is held, and nobody waits to send to it."""
        for held in [each for each in self._held if rank in (each.header.sender, each.to.rank)]:
            self._end(held)
        self._look()

    def cut(self, a: int, b: int) -> None:
        """Links between these nodes are cut, and they do without each other: nothing is held between them."""
        for held in [each for each in self._held if {each.header.sender, each.to.rank} == {a, b}]:
            self._end(held)

    def enter(self, node: Node, to: int, tag: Tag, tell: Callable[[bool], None]) -> bool | None:
        """Whether a message may be sent; None: `tell` is called with that later."""
        key = (node.rank, to, tag.player)
        if self._full.get(key) == tag.round:
            return False
        if not self._held or self._has_room(node, to, tag):
            return True
        waiting = _Waiting(node, to, tag, tell)
        self._waiting.append(waiting)
        self._fabric.patience.watch(node, to, partial(self._refuse, waiting), waiting.timers)
        return None

    def _has_room(self, node: Node, to: int, tag: Tag) -> bool:
        held = {
            each.header.tag.round
            for each in self._held
            if (each.header.sender, each.to.rank, each.header.tag.player) == (node.rank, to, tag.player)
        }
        return tag.round in held or len(held) < self._limits.window_rounds

    def _look_soon(self) -> None:
        self._fabric.time.after(0.0, self._look)

    def _look(self) -> None:
        for held in list(self._held):
            if held in self._held and not held.to.mailbox.is_ahead(held.header):
                self._end(held)
                self._deliver(held.to, held.header, held.payload)

    def _end(self, held: _Held) -> None:
        self._fabric.time.cancel(held.timers)
        self._held.remove(held)
        for waiting in [each for each in self._waiting if self._has_room(each.node, each.to, each.tag)]:
            self._answer(waiting, True)

    def _refuse(self, waiting: _Waiting) -> None:
        """The deadline is over: nothing of this round is sent to that peer."""
        self._full[waiting.node.rank, waiting.to, waiting.tag.player] = waiting.tag.round
        self._answer(waiting, False)

    def _answer(self, waiting: _Waiting, room: bool) -> None:
        self._fabric.time.cancel(waiting.timers)
        self._waiting.remove(waiting)
        waiting.tell(room)
