"""Decides when a message may be sent on a graph that changes every round, which keeps the nodes within one round.

On such a graph a node waits in each round for that round's senders alone, so a late node holds up one other node,
and the rest continue. Their next messages then meet the late one, in its receiver's downlink or in its sender's
uplink, and share the link with it: the late message takes twice as long, and is twice as late in the next round. So
a message of a round is sent only when two kinds of peers are ready for that round: its receivers, and the receivers
of this node's messages in the round before. A peer is ready for a round when all messages due to it in the round
before have arrived, or when so little is missing that it arrives there in the time that the notice takes to get here
(ExchangeConfig.pipe_bytes): where no peer is late, no node waits. The rule changes nothing that decides a
trajectory; a node that hears nothing from a peer for ExchangeConfig.turn_s sends anyway.

This is the rule alone, without a thread or a clock, as the mailbox is: the gRPC exchange calls it from its loop,
the virtual fabric from its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf


@dataclass(eq=False)
class Held:
    """A message that waits for its turn: its round, the peers that are not ready for it, and its send function."""

    number: int
    peers: set[int]
    send: Callable[[], None]


class Turns:
    """One node's view. `announce` notifies senders to this node that it is ready for a round; numbers only grow."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self.ready = 0
        self._number = 0
        self._awaited: set[int] = set()  # senders of the current round whose messages are not nearly there
        self._nearly: set[tuple[int, int]] = set()
        self._after: frozenset[int] = frozenset()
        self._peers: dict[int, float] = {}  # for which round they are ready; inf: they cannot be heard
        self._lost: set[int] = set()
        self._held: list[Held] = []

    def begin(self, number: int, sources: Iterable[int], after: Iterable[int]) -> None:
        """This node's round begins: it will get messages from `sources`, and sends its own once `after` are ready."""
        self._number, self._after = number, frozenset(after)
        self._nearly = {(source, which) for source, which in self._nearly if which >= number}
        self._awaited = {rank for rank in sources if (rank, number) not in self._nearly and rank not in self._lost}
        self._be_ready(number)
        self._look()

    def nearly(self, source: int, number: int) -> None:
        """That peer's message of a round is there but for the last `pipe_bytes`."""
        self._nearly.add((source, number))
        if number == self._number:
            self._awaited.discard(source)
            self._look()

    def hear(self, peer: int, number: float) -> None:
        """That peer is ready for a round, and for all before it."""
        if peer in self._lost:
            return
        known = self._peers.get(peer, 0)
        self._peers[peer] = number if known == inf else max(number, known)
        for held in list(self._held):
            if held.number <= number and peer in held.peers:
                held.peers.discard(peer)
                if not held.peers:
                    self.let_go(held)

    def silence(self, peer: int) -> None:
        """Stop waiting for that peer to be ready, as it cannot be heard for now; its messages are still awaited."""
        self.hear(peer, inf)

    def lose(self, peer: int) -> None:
        """That peer is lost permanently: nothing waits until it is ready, nor for what it would send."""
        self.silence(peer)
        self._lost.add(peer)
        if peer in self._awaited:
            self._awaited.discard(peer)
            self._look()

    def readmit(self, peer: int) -> None:
        """That peer is back: it can be heard again."""
        self._lost.discard(peer)

    def take(self, number: int, send: Callable[[], None]) -> Held | None:
        """Call `send`, now if it is this round's turn, or as soon as it is: in that case returns the held message."""
        late = (
            {peer for peer in self._after if self._peers.get(peer, 0) < number} if number == self._number else set()
        )
        if not late:
            send()
            return None
        held = Held(number, late, send)
        self._held.append(held)
        return held

    def let_go(self, held: Held) -> None:
        """Send it now, without waiting for any peer; nothing if it has been sent."""
        if held in self._held:
            self._held.remove(held)
            held.send()

    def drop(self) -> None:
        """Forget all held messages: this node has ended, and sends nothing."""
        self._held.clear()

    def _look(self) -> None:
        if not self._awaited:
            self._be_ready(self._number + 1)

    def _be_ready(self, number: int) -> None:
        if number > self.ready:
            self.ready = number
            self._announce(number)
