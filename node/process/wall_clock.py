"""Performs an algorithm's effects on the wall clock: gradients in this thread, messages over gRPC or gloo."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from gannet.node.training.effects import (
    AllReduce,
    Arrival,
    BeginRound,
    Collect,
    Compute,
    Effect,
    Losses,
    Meet,
    Met,
    PeerLost,
    Receive,
    ReceiveFirst,
    Send,
    Tag,
)
from gannet.node.training.meter import Meter

T = TypeVar("T")


class Exchange(Protocol):
    """The interface that the wall-clock fabric requires of a network."""

    def begin_round(self, number: int, sources: Sequence[int], after: Sequence[int]) -> None: ...

    def send(self, to: int, tag: Tag, payload: memoryview, last: bool) -> None: ...

    def receive(self, source: int, tag: Tag) -> memoryview: ...

    def receive_first(self, wanted: Sequence[tuple[int, Tag]]) -> tuple[int, memoryview | PeerLost]: ...

    def collect(self, wait: bool) -> list[Arrival]: ...

    def losses(self) -> tuple[int, ...]: ...


class Collective(Protocol):
    """A foreign library that averages gradients in place of the project's own exchange."""

    def average(
        self, field: Tensor, buffers: Tensor | None, active: Collection[str]
    ) -> tuple[Tensor, Tensor | None]: ...


class WallClock:
    """Drives one coroutine to its end in the calling thread; counts where its time goes."""

    def __init__(
        self,
        exchange: Exchange,
        meter: Meter,
        pace_s: float,
        collective: Collective | None = None,
        meet: Callable[[int, tuple[int, ...]], Met] = Met,
    ) -> None:
        """`meet` waits for the others after a step, with this node's rounds."""
        self._exchange, self._collective, self._meet = exchange, collective, meet
        self._meter = meter
        self._pace_s = pace_s

    def run(self, coroutine: Coroutine[Effect[Any], Any, T]) -> T:
        """The coroutine's result. Errors are raised inside it: it handles PeerLost, any other ends it."""
        answer: Any = None
        wrong: Exception | None = None
        while True:
            try:
                effect = coroutine.send(answer) if wrong is None else coroutine.throw(wrong)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer, wrong = None, None
            try:
                answer = self._carry_out(effect)
            except Exception as error:
                wrong = error

    def _carry_out(self, effect: Effect[Any]) -> Any:
        begin = time.monotonic()
        match effect:
            case Compute(work, share):
                result = work()
                # Sleeping the rest of the pace leaves the core to the other nodes of a crowded host.
                rest = share * self._pace_s - (time.monotonic() - begin)
                if rest > 0:
                    time.sleep(rest)
                self._meter.compute_s += time.monotonic() - begin
                return result
            case BeginRound(number, sources, after):
                self._exchange.begin_round(number, sources, after)
            case Send(to, tag, payload, last):
                self._exchange.send(to, tag, payload, last)
            case Receive(source, tag):
                payload = self._exchange.receive(source, tag)
                self._meter.wait_s += time.monotonic() - begin
                return payload
            case ReceiveFirst(wanted):
                first = self._exchange.receive_first([(each.source, each.tag) for each in wanted])
                self._meter.wait_s += time.monotonic() - begin
                return first
            case Collect(wait):
                arrivals = self._exchange.collect(wait)
                self._meter.wait_s += time.monotonic() - begin
                return arrivals
            case Losses():
                return self._exchange.losses()
            case Meet(step, rounds):
                met = self._meet(step, rounds)
                self._meter.wait_s += time.monotonic() - begin
                return met
            case AllReduce(field, buffers, active) if self._collective is not None:
                mean = self._collective.average(field, buffers, active)
                self._meter.wait_s += time.monotonic() - begin
                return mean
            case _:
                raise TypeError(f"an algorithm awaited {effect!r}, which is no effect")
        self._meter.wait_s += time.monotonic() - begin
        return None
