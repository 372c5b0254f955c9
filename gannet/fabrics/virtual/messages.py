"""Messages between virtual nodes: over the links, in their turn, through the faults that are meant for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from gannet.fabrics.job import Sink
from gannet.fabrics.tcp_model import frame_bytes
from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.faults import Corrupt, DamageOne, Drop, Duplicate, Hold, OneMessage
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.fabrics.virtual.node import Node
from gannet.fabrics.virtual.room import Room, Waits
from gannet.fabrics.virtual.turns import VirtualTurns
from gannet.node.config import ExchangeConfig
from gannet.node.exchange.checksum import crc32
from gannet.node.exchange.mailbox import Header, Refusal, Verdict
from gannet.node.training.effects import Tag


class Surroundings(Protocol):
    """The simulation as its messages see it."""

    time: Timeline
    nodes: list[Node]
    links: LinkModel[Any]
    sink: Sink

    @property
    def patience(self) -> Waits:
        """The waits of its nodes."""
        ...

    def resume(self, node: Node, answer: Any, lost: Exception | None) -> None:
        """Have a node continue."""
        ...


class Messages:
    """`segments`: the TCP segments a packet may hold. `on_send`: see gannet.fabrics.virtual.fabric.run_virtual."""

    def __init__(
        self,
        fabric: Surroundings,
        turns: VirtualTurns,
        limits: ExchangeConfig,
        segments: int,
        on_send: Callable[[int, int, int], None] | None,
    ) -> None:
        self._fabric, self._turns, self._segments, self._on_send = fabric, turns, segments, on_send
        self.room = Room(fabric, limits, self.deliver)
        self._corrupt: dict[int, Corrupt] = {}
        self._meant: list[OneMessage] = []

    def disturb(self, fault: Corrupt | OneMessage) -> None:
        """Begin a fault of messages."""
        if isinstance(fault, Corrupt):
            self._corrupt[fault.rank] = fault
        else:
            self._meant.append(fault)

    def carry(self, source: int, to: int, size: int, deliver: Callable[[], None]) -> None:
        """Send `size` bytes of payload that are no message of an exchange."""
        self._fabric.nodes[source].wire_bytes += int(wire := frame_bytes(size, self._segments))
        self._fabric.links.send(self._fabric.time.now_s, source, to, wire, deliver)

    def send(self, node: Node, to: int, tag: Tag, payload: memoryview) -> bool:
        """Send a message; nothing is sent to a peer that is known to be lost. False: the node is resumed once it is
        sent, or cannot be (see gannet.fabrics.virtual.room).
        """
        if to in node.mailbox.lost or to in node.mailbox.cut_off:
            return True
        if self._on_send is not None:
            self._on_send(node.rank, to, len(payload))
        begun_s = self._fabric.time.now_s

        def tell(room: bool) -> None:
            if node.alive and not node.done:
                node.meter.wait_s += self._fabric.time.now_s - begun_s
                if room:
                    self._put(node, to, tag, payload)
                self._fabric.time.after(0.0, partial(self._fabric.resume, node, None, None))

        room = self.room.enter(node, to, tag, tell)
        if room:
            self._put(node, to, tag, payload)
        return room is not None

    def _put(self, node: Node, to: int, tag: Tag, payload: memoryview) -> None:
        mailbox = node.mailbox
        header = Header(mailbox.run, node.rank, tag, mailbox.schema, len(payload), crc32(payload))
        if (corrupt := self._corrupt.get(node.rank)) is not None:
            header, payload = corrupt.damage(header, payload)
        wire = frame_bytes(len(payload), self._segments)
        node.wire_bytes += int(wire)
        deliver = partial(self._arrive, node, self._fabric.nodes[to], header, payload, self._fault(node.rank, to))
        if node.worker.peers.in_turns:
            self._turns.send(node.rank, to, tag.round, len(payload), wire, deliver)
        else:
            self._fabric.links.send(self._fabric.time.now_s, node.rank, to, wire, deliver)

    def _fault(self, source: int, to: int) -> OneMessage | None:
        fault = next((each for each in self._meant if (each.source, each.to) == (source, to)), None)
        if fault is not None:
            self._meant.remove(fault)
        return fault

    def _arrive(self, node: Node, to: Node, header: Header, payload: memoryview, fault: OneMessage | None) -> None:
        after = self._fabric.time.after
        match fault:
            case Drop(again_s=again_s):
                if again_s is not None:
                    after(again_s, partial(self._send_again, node, to, header, payload))
            case Duplicate(later_s=later_s, again=again):
                self.deliver(to, header, payload)
                after(later_s, partial(self.deliver, to, replace(header, again=again), payload))
            case Hold(later_s=later_s):
                after(later_s, partial(self.deliver, to, header, payload))
            case DamageOne(damage=damage):
                self.deliver(to, *damage(header, payload))
            case _:
                self.deliver(to, header, payload)

    def _send_again(self, node: Node, to: Node, header: Header, payload: memoryview) -> None:
        if node.alive and to.rank not in node.mailbox.lost and to.rank not in node.mailbox.cut_off:
            again = partial(self.deliver, to, replace(header, again=True), payload)
            self.carry(node.rank, to.rank, len(payload), again)

    def deliver(self, to: Node, header: Header, payload: memoryview) -> None:
        """Put a message into a node's mailbox, or report its refusal; one that stands still takes it afterwards."""
        time = self._fabric.time
        if to.paused_until_s > time.now_s:
            time.at(to.paused_until_s, partial(self.deliver, to, header, payload))
            return
        if to.mailbox.is_ahead(header):
            self.room.hold(to, header, payload)
            return
        try:
            to.mailbox.put(header, payload)
        except Refusal as refusal:
            if refusal.verdict is not Verdict.REPEATED:
                self._fabric.sink.refused(header.sender, to.rank, refusal.verdict.name.lower(), refusal.detail)
