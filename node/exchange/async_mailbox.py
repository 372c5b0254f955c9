"""The mailbox of an asynchronous algorithm: segments are taken in order of arrival, from any peer.

Nodes of such an algorithm have no common rounds. Each numbers its own exchanges, and a message's round is
LANES · number + lane, where the lane is the message's purpose (see gannet.node.algorithms.ad_psgd). Within a lane the
numbers of one sender increase; a message that comes again or after a later one is stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gannet.node.exchange.mailbox import Header, Mailbox, Verdict
from gannet.node.training.effects import Arrival, PeerLost, Tag

LANES = 3

Collector = Callable[[list[Arrival]], None]


class AsyncMailbox(Mailbox):
    """A Mailbox that keeps the order of arrival; round 0, which warms the channels, is received by name as usual."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._arrived: list[Arrival] = []
        self._untaken: Counter[int] = Counter()
        self._latest: dict[tuple[int, int], int] = {}  # (sender, lane): the last number
        self._collector: Collector | None = None

    def check_time(self, header: Header) -> None:
        """Raise Refusal for a segment received before, and when more than the window's segments are not yet taken."""
        number = header.tag.round
        if number < LANES:
            super().check_time(header)
        elif number <= self._latest.get((header.sender, number % LANES), 0):
            raise self._stale(header, f"{header.tag} came again or too late")
        elif self._untaken[header.sender] >= self.window_rounds:
            detail = f"{header.tag}, and {self._untaken[header.sender]} segments before it are still waiting"
            raise self._refuse(Verdict.TOO_EARLY, detail)

    def is_ahead(self, header: Header) -> bool:
        """Never: nodes have rounds of their own, and no sender waits for its receiver's."""
        return False

    def take(self) -> list[Arrival]:
        """All arrivals since the last call, in order."""
        taken, self._arrived = self._arrived, []
        self._untaken.clear()
        return taken

    def collect(self, collector: Collector) -> None:
        """Call `collector` with all arrivals, now or once there is one. Only one collector can wait at a time."""
        self._collector = collector
        self._wake()

    def stop_waiting(self) -> None:
        """The wait is over: its collector receives nothing."""
        collector, self._collector = self._collector, None
        if collector is not None:
            collector([])

    def lose(self, rank: int, reason: str) -> None:
        """That peer is lost permanently: an arrival too."""
        news = rank not in self.lost
        super().lose(rank, reason)
        if news:
            self._arrived.append(Arrival(rank, Tag(0, 0), PeerLost(rank, reason)))
            self._wake()

    def _settle(self, key: tuple[int, Tag], outcome: memoryview | PeerLost) -> None:
        source, tag = key
        if tag.round < LANES:
            super()._settle(key, outcome)
            return
        if not isinstance(outcome, PeerLost):  # a refused segment is refused; the next one may be right
            self._latest[source, tag.round % LANES] = tag.round
            self._untaken[source] += 1
            self._arrived.append(Arrival(source, tag, outcome))
            self._wake()

    def _wake(self) -> None:
        if self._collector is not None and self._arrived:
            collector, self._collector = self._collector, None
            collector(self.take())
