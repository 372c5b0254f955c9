"""AD-PSGD: asynchronous decentralized training by pairwise averaging; no step waits for a slow node.

Lian, Zhang, Zhang, Liu, "Asynchronous Decentralized Parallel Stochastic Gradient Descent" (ICML 2018, arXiv
1710.06952), algorithm 1 and section 3: the nodes form two sides. An asking node averages with a random neighbour of
the other side, both taking (x_i + x_j)/2, and descends along a gradient that was computed at its x before the
averaging.

A node asks by sending its x and continues computing. The neighbour answers with its own x between two gradients and
takes the average; the asking node moves by (x_j − x_i)/2 when the answer arrives, using the values as sent. Asking
nodes are never asked, so x_i at that time is the x_i that was sent, apart from gradients: the averages are products
of doubly stochastic matrices. (With exchanges that overlap at both ends they are not, and grow without bound.)
Reconstructed: the choice of neighbours where the graph is not bipartite, and the optimistic Adam step instead of −γ
g.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from gannet.node.exchange.async_mailbox import LANES
from gannet.node.methods.ad_psgd import AdPsgdConfig
from gannet.node.tasks.base import random_stream
from gannet.node.topologies.sides import asking_side
from gannet.node.traffic.exchange import exchange_edges
from gannet.node.training.effects import Arrival, Collect, PeerLost, Tag
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker

_PARTNER_STREAM = 0x5047  # of random numbers, separate from the task's


class Lane(IntEnum):
    """The purpose of a message; see gannet.node.exchange.async_mailbox."""

    QUESTION = 0
    ANSWER = 1
    FAREWELL = 2


@dataclass(frozen=True)
class Question:
    """A pending question: the partner, its number and step, and x as sent."""

    partner: int
    number: int
    step: int
    sent: Tensor


class Pairs:
    """A node's pairwise exchanges: it asks, one question at a time, or it answers."""

    def __init__(self, worker: Worker) -> None:
        self._peers = worker.peers
        edges = exchange_edges(worker.config, worker.world)
        self._neighbours = {b for a, b in edges if a == worker.rank}
        self._asks = worker.rank in asking_side(worker.world, edges)
        self._random = random_stream(worker.config.seed, _PARTNER_STREAM, worker.rank)
        self.question: Question | None = None

    async def ask(self, x: Tensor, step: int) -> None:
        """Send x to a random neighbour, unless this node only answers or is still waiting for an answer."""
        partners = sorted(self._neighbours)
        if not self._asks or self.question is not None or not partners:
            return
        partner = partners[int(torch.randint(len(partners), (1,), generator=self._random))]
        payload = self._peers.encode(x)
        sent = self._peers.codec.decode(payload)  # the bits that arrive
        self.question = Question(partner, self._peers.next_round(), step, sent)
        await self._send(partner, self.question.number, Lane.QUESTION, payload)

    async def settle(self, x: Tensor, step: int, staleness: int | None) -> Tensor:
        """x after all arrivals; waits only while a question is more than `staleness` steps old."""
        x = await self._take(await Collect(), x)
        while staleness is not None and self.question is not None and step - self.question.step > staleness:
            arrivals = await Collect(wait=True)
            if not arrivals:  # the deadline has passed: continue without that answer
                self._peers.missing.add(self.question.partner)
                self.question = None
            x = await self._take(arrivals, x)
        return x

    async def leave(self) -> None:
        """Announce that no further question will be answered, so that no peer waits for an answer."""
        number, nothing = self._peers.next_round(), self._peers.codec.encode(torch.zeros(1))
        for to in sorted(self._neighbours):
            await self._send(to, number, Lane.FAREWELL, nothing)

    async def _take(self, arrivals: list[Arrival], x: Tensor) -> Tensor:
        for source, tag, outcome in arrivals:
            number, lane = divmod(tag.round, LANES)
            if isinstance(outcome, PeerLost) or lane == Lane.FAREWELL:
                if isinstance(outcome, PeerLost):
                    self._peers.missing.add(source)
                self._neighbours.discard(source)
                if self.question is not None and self.question.partner == source:
                    self.question = None
            else:
                x = await self._average(source, number, Lane(lane), outcome, x)
        return x

    async def _average(self, source: int, number: int, lane: Lane, payload: memoryview, x: Tensor) -> Tensor:
        try:
            theirs = self._peers.decode(source, Tag(number, 0), payload, len(x))
        except PeerLost:  # wrong length: not used
            self._peers.missing.add(source)
            return x
        if lane == Lane.QUESTION and not self._asks:
            answer = self._peers.encode(x)
            await self._send(source, number, Lane.ANSWER, answer)
            return x + (theirs - self._peers.codec.decode(answer)) / 2
        question = self.question
        if lane != Lane.ANSWER or question is None or (question.partner, question.number) != (source, number):
            return x  # given up at a deadline, or not a message that this side expects
        self.question = None
        return x + (theirs - question.sent) / 2

    async def _send(self, to: int, number: int, lane: Lane, payload: memoryview) -> None:
        await self._peers.send(to, Tag(LANES * number + lane, 0), payload)


async def ad_psgd(worker: Worker, config: AdPsgdConfig) -> AsyncGenerator[Step, None]:
    """Ask with x, compute the gradient at x, x ← x − OAdam(g), then add half of every difference that has arrived."""
    x = worker.initial()
    oadam, pairs = OAdam(worker.task, worker.config.optimizer, x), Pairs(worker)
    step = 0
    try:
        while True:
            step += 1
            await pairs.ask(x, step)
            g = await worker.gradient(x)
            x = await pairs.settle(oadam.step(x, g), step, config.staleness)
            yield Step(x, g.losses)
    except GeneratorExit:  # training has ended normally
        await pairs.leave()
        raise
