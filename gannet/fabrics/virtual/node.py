"""One node of the virtual fabric."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.first_of import FirstOf, Message
from gannet.node.exchange.mailbox import Mailbox
from gannet.node.process.last_step import LastStep
from gannet.node.process.meeting import Meeting
from gannet.node.traffic.players import steps_between
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import Effect, Tag
from gannet.node.training.loop import progress, train
from gannet.node.training.meter import Meter, StepStats
from gannet.node.training.worker import Worker


class Waits(Protocol):
    """The waits of all nodes (see gannet.fabrics.virtual.patience)."""

    def expect(self, node: Node, source: int, tag: Tag, tell: Callable[[Message], None]) -> None:
        """Have `tell` called with a message when it comes, or with why it cannot."""
        ...


class Surroundings(Protocol):
    """The simulation as a node sees it."""

    time: Timeline

    @property
    def patience(self) -> Waits:
        """The waits of its nodes."""
        ...

    def on_step(self, rank: int, stats: StepStats) -> None:
        """Take a step's figures."""
        ...

    def on_snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        """Take a snapshot, parameters `x` of shape (size,)."""
        ...

    def on_checkpoint(self, rank: int, checkpoint: Checkpoint) -> None:
        """Take a checkpoint."""
        ...


class Node:
    """One simulated node: its worker, its mailbox, and the reporter that its training loop talks to."""

    def __init__(self, fabric: Surroundings, rank: int, worker: Worker, mailbox: Mailbox) -> None:
        self.fabric, self.rank, self.worker, self.mailbox = fabric, rank, worker, mailbox
        self.wire_bytes = 0
        self.meter = Meter(clock=lambda: fabric.time.now_s, network=lambda: (self.wire_bytes, self.wire_bytes))
        self.coroutine: Coroutine[Effect[Any], Any, int] = train(worker, self.meter, self)
        self.pace_s = worker.config.pace_s_of(rank)
        self.first_of = FirstOf(partial(fabric.patience.expect, self))
        self.steps = worker.made
        self.last_step = LastStep(steps_between(worker.config), progress(worker.config, worker.made, worker.begin_s))
        self.meeting = Meeting(steps_between(worker.config), worker.made)
        self.give_state: Callable[[Checkpoint], None] | None = None  # to a node that comes in, after the next step
        self.awaited = 0  # effects so far
        self.paused_until_s = 0.0
        self.alive = True
        self.waiting = False  # for a message or room for one, or at a meeting
        self.at_meeting = False
        self.interrupted: Exception | None = None
        self.done = False
        self.ended = False

    def step(self, stats: StepStats) -> None:
        self.steps = stats.step
        self.meeting.reach(stats.step)
        self.last_step.reach(progress(self.worker.config, stats.step, stats.t_s))
        self.fabric.on_step(self.rank, stats)

    def snapshot(self, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        self.fabric.on_snapshot(self.rank, step, t_s, codec_bytes, x)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.fabric.on_checkpoint(self.rank, checkpoint)

    def wants_state(self) -> bool:
        return self.give_state is not None

    def state(self, checkpoint: Checkpoint) -> None:
        give, self.give_state = self.give_state, None
        assert give is not None
        give(checkpoint)

    def meets(self, step: int) -> bool:
        return self.meeting.due(step)

    def stop_after(self) -> int | None:
        return self.last_step.last_step()

    def shown_last(self) -> int | None:
        return self.last_step.shown
