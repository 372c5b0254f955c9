"""Runs one algorithm for each player's part of x, side by side, and asks the gradient of the whole task for all.

    each player p:  its own algorithm, codec, topology and rounds, over x_p, its part of x
    each step:      one gradient of the whole task at x = (x_1, …, x_P), of which each gets its part

A player's algorithm runs until it asks for a gradient or waits for a message. What it sends goes out at once. While
it waits the others go on, so that all players' messages travel together, and whoever's message comes first goes on
first. That order changes no result: a player's part depends on its own messages and on the gradients alone, and a
gradient is taken only when every player has asked for one or has made its step.

With one algorithm for all players and an exact codec it is that algorithm over the whole vector.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gannet.node.algorithms.registry import ALGORITHMS
from gannet.node.config import NodeConfig
from gannet.node.players.parts import PartTask
from gannet.node.tasks.base import Gradient
from gannet.node.training.effects import Effect, PeerLost, Receive, ReceiveFirst, Send
from gannet.node.training.worker import Kept, Step, Worker


@dataclass(frozen=True)
class AskGradient(Effect[Gradient]):
    """A player's algorithm wants the gradient at x, its part; no fabric ever sees this effect."""

    x: Tensor


class PartWorker(Worker):
    """A Worker for one player: its part of the task, of x to begin with, and a codec and rounds of its own."""

    def __init__(self, whole: Worker, player: str, config: NodeConfig, x: Tensor) -> None:
        self.part = PartTask(whole.task, player)
        super().__init__(config, whole.rank, whole.world, self.part)
        self.peers = whole.players.of[player]
        self.made = whole.made
        self._whole, self._player, self._x = whole, player, x

    def start(self) -> Tensor:
        """The part of x that the whole run begins with."""
        return self.part.of(self._x)

    def keep(self, name: str, thing: Kept) -> Kept:
        """The whole run keeps it, under the player's name."""
        return self._whole.keep(f"{self._player}/{name}", thing)

    async def gradient(self, x: Tensor) -> Gradient:
        """This part of the whole task's gradient."""
        return await AskGradient(x)


class Track:
    """One player's algorithm on its way from one step to the next.

    `state`: what it waits for, a message or a gradient, or the step it has made.
    """

    def __init__(self, whole: Worker, number: int, worker: PartWorker) -> None:
        self._whole, self._number, self.worker = whole, number, worker
        config = worker.config
        self._steps = ALGORITHMS[config.algorithm.name](self.worker, config.algorithm)
        self.state: Receive | AskGradient | Step

    @property
    def x(self) -> Tensor:
        """Where this player stands: the point it wants the gradient at, or that its step has led to."""
        assert not isinstance(self.state, Receive)
        return self.state.x

    async def begin(self) -> None:
        """Set out for the next step."""
        self._turn = self._steps.__anext__()
        await self.go_on(None)

    async def go_on(self, answer: Any) -> None:
        """Run, given what it waited for, until it waits again or has made its step."""
        while True:
            try:
                if isinstance(answer, PeerLost):
                    effect = self._turn.throw(answer)
                else:
                    effect = self._turn.send(answer)
            except StopIteration as made:
                self.state = made.value
                return
            match effect:
                case Send(to, tag, payload, last):
                    await self._whole.peers.send(to, tag._replace(player=self._number), payload, last)
                    answer = None
                case Receive(source, tag):
                    self.state = Receive(source, tag._replace(player=self._number))
                    return
                case AskGradient():
                    self.state = effect
                    return
                case _:
                    raise TypeError(f"a player's algorithm awaited {effect!r}, which is none of a player's effects")

    async def end(self, why: BaseException) -> None:
        """Unwind the algorithm wherever it stands."""
        with suppress(BaseException):
            self._turn.throw(why)
        await self._steps.aclose()


async def by_player(worker: Worker) -> AsyncGenerator[Step, None]:
    """The state of a step is all players' x together."""
    x = worker.start()
    workers = [PartWorker(worker, player, config, x) for player, config in worker.parts.items()]
    tracks = [Track(worker, number, part) for number, part in enumerate(workers)]
    try:
        while True:
            for track in tracks:
                await track.begin()
            await _settle(tracks)
            while asking := [track for track in tracks if isinstance(track.state, AskGradient)]:
                # Who has made its step already stays where it is: some algorithms begin with one gradient more.
                g = await worker.gradient(_join(worker, tracks))
                for track in asking:
                    await track.go_on(track.worker.part.of_gradient(g))
                await _settle(tracks)
            yield Step(_join(worker, tracks), g.losses)
    except BaseException as why:
        for track in tracks:
            await track.end(why)
        raise


async def _settle(tracks: list[Track]) -> None:
    """Let all go on until nobody waits for a message."""
    while waiting := [(track, track.state) for track in tracks if isinstance(track.state, Receive)]:
        index, outcome = await ReceiveFirst(tuple(state for _, state in waiting))
        await waiting[index][0].go_on(outcome)


def _join(worker: Worker, tracks: list[Track]) -> Tensor:
    x = torch.empty(worker.task.size)
    for track in tracks:
        track.worker.part.put(x, track.x)
    return x
