"""What the virtual fabric does for each effect that an algorithm awaits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.islands import Islands
from gannet.fabrics.virtual.messages import Messages
from gannet.fabrics.virtual.node import Node
from gannet.fabrics.virtual.patience import Patience
from gannet.fabrics.virtual.returning import Returning
from gannet.fabrics.virtual.turns import VirtualTurns
from gannet.node.exchange.async_mailbox import AsyncMailbox
from gannet.node.training.effects import (
    BeginRound,
    Collect,
    Compute,
    Effect,
    Losses,
    Meet,
    Met,
    Receive,
    ReceiveFirst,
    Send,
)

WAITS = object()
"""Instead of an answer: the node is resumed later."""
WAITING = (Receive, ReceiveFirst, Collect, Meet)
"""The effects for which a node waits for others."""


class Surroundings(Protocol):
    """The simulation as this sees it."""

    time: Timeline
    turns: VirtualTurns
    islands: Islands
    returning: Returning
    patience: Patience

    def resume(self, node: Node, answer: Any, lost: Exception | None) -> None:
        """Have a node continue."""
        ...


class Performer:
    """Carries out effects: `perform`."""

    def __init__(self, fabric: Surroundings, messages: Messages) -> None:
        self._fabric, self._messages = fabric, messages
        self._by_kind: dict[type[Effect[Any]], Callable[[Node, Any], Any]] = {
            Compute: self._compute,
            BeginRound: self._begin_round,
            Send: self._send,
            Losses: lambda node, effect: node.mailbox.losses(),
            Receive: self._receive,
            ReceiveFirst: self._receive_first,
            Meet: self._meet,
            Collect: self._collect,
        }

    def perform(self, node: Node, effect: Effect[Any]) -> Any:
        """Carry out an effect: its answer, or WAITS."""
        if (carry_out := self._by_kind.get(type(effect))) is None:
            raise TypeError(f"an algorithm awaited {effect!r}, which is no effect")
        return carry_out(node, effect)

    def _compute(self, node: Node, effect: Compute[Any]) -> Any:
        answer = effect.work()
        if not node.pace_s:
            return answer
        lasts_s = effect.share * node.pace_s
        node.meter.compute_s += lasts_s
        self._fabric.time.after(lasts_s, partial(self._fabric.resume, node, answer, None))
        return WAITS

    def _begin_round(self, node: Node, effect: BeginRound) -> None:
        self._fabric.turns.of[node.rank].begin(effect.number, effect.sources, effect.after)

    def _send(self, node: Node, effect: Send) -> Any:
        if self._messages.send(node, effect.to, effect.tag, effect.payload):
            return None
        node.waiting = True
        return WAITS

    def _receive(self, node: Node, effect: Receive) -> Any:
        self._fabric.patience.receive(node, effect.source, effect.tag)
        return WAITS

    def _receive_first(self, node: Node, effect: ReceiveFirst) -> Any:
        self._fabric.patience.receive_first(node, [(each.source, each.tag) for each in effect.wanted])
        return WAITS

    def _meet(self, node: Node, effect: Meet) -> Any:
        node.at_meeting = True
        meeting = self._fabric.islands if self._fabric.islands.meeting else self._fabric.returning
        meeting.arrive(node, Met(effect.step, effect.rounds))
        return WAITS

    def _collect(self, node: Node, effect: Collect) -> Any:
        if not effect.wait:
            assert isinstance(node.mailbox, AsyncMailbox)
            return node.mailbox.take()
        self._fabric.patience.collect(node)
        return WAITS
