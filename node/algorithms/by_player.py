"""Runs one algorithm for each player's part of x, concurrently, with a shared gradient of the whole task.

    each player p:  its own algorithm, codec, topology and rounds, over x_p, its part of x
    each step:      one gradient of the whole task at x = (x_1, …, x_P), of which each player gets its part

A player's algorithm runs until it asks for a gradient or waits for a message. Its messages are sent at once. While it
waits the others run, so that all players' messages are in flight together, and the player whose message arrives first
continues first. This order changes no result: a player's part depends only on its own messages and on the gradients,
and a gradient is computed only when every player has asked for one or has finished its step.

With one algorithm for all players and an exact codec this equals that algorithm over the whole vector.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gannet.node.config import NodeConfig
from gannet.node.players.parts import PartTask
from gannet.node.tasks.base import Gradient
from gannet.node.training.effects import Effect, PeerLost, Receive, ReceiveFirst, Send
from gannet.node.training.worker import Kept, Step, Worker


@dataclass(frozen=True)
class AskGradient(Effect[Gradient]):
    """A player's algorithm asks for the gradient at x, its part; fabrics never see this effect."""

    x: Tensor


class PartWorker(Worker):
    """A Worker for one player: its part of the task and of the initial x, and its own codec and rounds."""

    def __init__(self, whole: Worker, player: str, config: NodeConfig, x: Tensor) -> None:
        self.part = PartTask(whole.task, player)
        super().__init__(config, whole.rank, whole.world, self.part)
        self.peers = whole.players.of[player]
        self.made = self._now = whole.made
        whole.parts_at_work.append(self)
        self._whole, self._player, self._x = whole, player, x

    def start(self) -> Tensor:
        """The player's part of the initial x."""
        return self.part.of(self._x)

    def keep(self, name: str, thing: Kept, own: bool = False) -> Kept:
        """Kept by the whole run, under the player's name."""
        return self._whole.keep(f"{self._player}/{name}", thing, own)

    async def gradient(self, x: Tensor) -> Gradient:
        """This part of the whole task's gradient."""
        return await AskGradient(x)


class Track:
    """One player's algorithm between two steps.

    `state`: the message or gradient that it waits for, or the step that it has finished.
    """

    def __init__(self, whole: Worker, number: int, worker: PartWorker) -> None:
        self._whole, self._number, self.worker = whole, number, worker
        self._steps = worker.algorithm(worker)
        self.state: Receive | AskGradient | Step

    @property
    def x(self) -> Tensor:
        """The point at which this player asks for the gradient, or the result of its step."""
        assert not isinstance(self.state, Receive)
        return self.state.x

    async def begin(self) -> None:
        """Begin the next step."""
        self._turn = self._steps.__anext__()
        await self.go_on(None)

    async def go_on(self, answer: Any) -> None:
        """Continue with the answer until the algorithm waits again or has finished its step."""
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
                    raise TypeError(
                        f"a player's algorithm awaited {effect!r}, which is not an effect that a player may use"
                    )

    async def end(self, why: BaseException) -> None:
        """Stop the algorithm at any point."""
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
                # Players that have finished their step wait: some algorithms begin with an additional gradient.
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
    """Run all players until none waits for a message."""
    while waiting := [(track, track.state) for track in tracks if isinstance(track.state, Receive)]:
        index, outcome = await ReceiveFirst(tuple(state for _, state in waiting))
        await waiting[index][0].go_on(outcome)


def _join(worker: Worker, tracks: list[Track]) -> Tensor:
    x = torch.empty(worker.task.size)
    for track in tracks:
        track.worker.part.put(x, track.x)
    return x
