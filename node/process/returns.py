"""A node's part when a lost one comes back or cut links do: it gives its state, meets the others, and continues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

import grpc.aio

from gannet.node.exchange import GrpcExchange
from gannet.node.process.meeting import Meeting
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import Met
from gannet.node.wire import control_pb2

log = logging.getLogger(__name__)


class Line(Protocol):
    """The connection to the controller."""

    def post(self, **kind: Any) -> None:
        """Queue a report, by its kind."""
        ...


class Returns:
    """Obeys the controller's orders in the gRPC loop; the other methods are for the training thread."""

    def __init__(self, meeting: Meeting, exchange: GrpcExchange, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self.meeting = meeting
        self._exchange, self._line, self._loop = exchange, line, loop
        self._give_to: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def obey(self, order: control_pb2.Order) -> bool:
        """Carry out an order that concerns a return; whether it was one. Also of links that are cut."""
        match order.WhichOneof("kind"):
            case "give_state":
                give = order.give_state
                self._exchange.expect_at(give.rank, give.mesh_address, give.name)
                self._give_to = give.rank
            case "where_to_meet":
                self._line.post(can_meet=control_pb2.CanMeet(step=self.meeting.ask()))
            case "meet_at" if order.meet_at.step:
                self.meeting.agree(order.meet_at.step)
            case "meet_at":
                self._give_to = None
                self.meeting.cancel()
            case "cut_off":
                log.info("links to ranks %s are cut: continues without them", list(order.cut_off.ranks))
                for rank in order.cut_off.ranks:
                    self._exchange.cut(rank, order.cut_off.reason)
            case "heal":
                self._begin(self._heal(list(order.heal.ranks), tuple(order.heal.rounds)))
            case "proceed":
                self._begin(self._proceed(order.proceed))
            case _:
                return False
        return True

    async def _proceed(self, order: control_pb2.Proceed) -> None:
        rounds = tuple(order.rounds)
        if order.mesh_address:
            await self._readmit(order, rounds)
        self.meeting.proceed(Met(order.step, rounds))

    async def _heal(self, ranks: list[int], rounds: tuple[int, ...]) -> None:
        self._exchange.inbox.enter_rounds(rounds)
        healed = [self._exchange.heal(rank, rounds) for rank in ranks]
        for rank, outcome in zip(ranks, await asyncio.gather(*healed, return_exceptions=True), strict=True):
            if isinstance(outcome, BaseException):
                why = str(outcome) or type(outcome).__name__
                log.warning("links to rank %d are back, and it cannot be reached yet: %s", rank, why)
        self._line.post(healed=control_pb2.Healed())

    async def _readmit(self, order: control_pb2.Proceed, rounds: tuple[int, ...]) -> None:
        try:
            await self._exchange.readmit(order.returned, order.mesh_address, rounds, order.name)
            log.info("rank %d is back after step %d", order.returned, order.step)
        except (TimeoutError, grpc.aio.AioRpcError) as error:  # its messages will be missed until it is reached
            log.warning("rank %d is back and cannot be reached: %s", order.returned, error or type(error).__name__)

    def wants_state(self) -> bool:
        """Whether the next step's state is asked for."""
        return self._give_to is not None

    def state(self, checkpoint: Checkpoint) -> None:
        """Offer this node's state."""
        rank, self._give_to = self._give_to, None
        if rank is not None:
            self._loop.call_soon_threadsafe(self._begin, self._offer(rank, checkpoint))

    async def _offer(self, rank: int, checkpoint: Checkpoint) -> None:
        self._exchange.offer_state(rank, await asyncio.to_thread(checkpoint.pack))
        self._line.post(state_offered=control_pb2.StateOffered(rank=rank))

    def meet(self, step: int, rounds: tuple[int, ...]) -> Met:
        """Wait at the meeting."""
        arrived = control_pb2.AtMeeting(step=step, rounds=rounds)
        met = self.meeting.wait(step, rounds, lambda: self._line.post(at_meeting=arrived))
        self._exchange.inbox.impatience.moves()
        return met

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
