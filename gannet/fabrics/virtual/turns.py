"""Turns on the virtual fabric (see gannet.node.exchange.turn_rule): messages wait for their turn, and news of which
node is ready take one delay.

News take no capacity: they are a few bytes a round. A message is two messages in the link model, the second as long
as ExchangeConfig.pipe_bytes; they follow each other without a gap, and when the first has arrived the message is
nearly complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import inf

from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.node.config import ExchangeConfig
from gannet.node.exchange.turn_rule import Turns

Action = Callable[[], None]


class VirtualTurns:
    """All nodes' turns: `of`, by rank. `edges`: every (sender, receiver) of the run."""

    def __init__(
        self,
        world: int,
        edges: Iterable[tuple[int, int]],
        limits: ExchangeConfig,
        links: LinkModel[Action],
        time: Timeline,
    ) -> None:
        self._limits, self._links, self._time = limits, links, time
        self._senders: list[list[int]] = [[] for _ in range(world)]
        for source, to in edges:
            self._senders[to].append(source)
        self._gone: set[int] = set()
        self.of = [Turns(partial(self._announce, rank)) for rank in range(world)]

    def send(self, source: int, to: int, number: int, payload_bytes: int, wire_bytes: float, deliver: Action) -> None:
        """Put a message of round `number` on the links when its turn comes; `deliver` is called when it arrives."""
        pipe_bytes = self._limits.pipe_bytes
        if pipe_bytes is None or payload_bytes <= pipe_bytes:
            self._links.send(self._time.now_s, source, to, wire_bytes, deliver)
            return
        rest = wire_bytes * pipe_bytes / payload_bytes
        nearly = partial(self.of[to].nearly, source, number)

        def put() -> None:
            self._links.send(self._time.now_s, source, to, wire_bytes - rest, nearly)
            self._links.send(self._time.now_s, source, to, rest, deliver)

        held = self.of[source].take(number, put)
        if held is not None:
            self._time.after(self._limits.turn_s, partial(self.of[source].let_go, held))

    def end(self, rank: int) -> None:
        """End a node: it sends no more news, and its messages that wait for their turn are dropped."""
        self._gone.add(rank)
        self.of[rank].drop()

    def readmit(self, rank: int) -> None:
        """A node that was lost is back."""
        self._gone.discard(rank)
        self.of[rank] = Turns(partial(self._announce, rank))
        for turns in self.of:
            turns.readmit(rank)

    def _announce(self, rank: int, number: int) -> None:
        for source in self._senders[rank] if rank not in self._gone else ():
            if (heard_s := self._links.news_s(self._time.now_s, rank, source)) < inf:
                self._time.at(heard_s, partial(self.of[source].hear, rank, number))
