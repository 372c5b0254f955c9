"""A node's training loop: it drives the algorithm, measures each step, and reports it."""

from __future__ import annotations

from contextlib import aclosing
from math import inf
from typing import Protocol

from torch import Tensor

from gannet.node.algorithms.by_player import by_player
from gannet.node.config import NodeConfig
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import LeaveNow, Meet
from gannet.node.training.meter import Meter, StepStats
from gannet.node.training.worker import Step, Worker


class Reporter(Protocol):
    """Receives the loop's reports. Only `stop_after` and `meets` may block the training thread."""

    def step(self, stats: StepStats) -> None: ...

    def snapshot(self, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        """Takes x without a copy: algorithms never change a tensor that they have yielded."""
        ...

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Takes a copy of the node's whole state."""
        ...

    def stop_after(self) -> int | None:
        """The step after which to leave, once it is known; steps as `progress` counts them.

        Waits where a node must not continue before it knows; see gannet.node.process.last_step.
        """
        ...

    def shown_last(self) -> int | None:
        """The number under which to leave the last step, where it is not its own: islands make different numbers."""
        ...

    def wants_state(self) -> bool:
        """Whether a node that is to come in waits for this node's state."""
        ...

    def state(self, checkpoint: Checkpoint) -> None:
        """Takes a copy of the node's whole state, for the node that is to come in."""
        ...

    def meets(self, step: int) -> bool:
        """Whether all nodes meet after this step; waits where it is not known yet and this node must not go past."""
        ...


async def train(worker: Worker, meter: Meter, report: Reporter) -> int:
    """Train until the step limit or the order to stop; returns the number of the last step."""

    config = worker.config
    steps = by_player(worker) if config.players else worker.algorithm(worker)
    if not worker.made:
        report.snapshot(0, 0.0, 0, worker.initial())
    meter.begin(worker.peers.codec_bytes, worker.begin_s)
    number = there = first = worker.made
    if config.max_steps is not None and number >= config.max_steps:
        return number  # ended after its last step, before it could report it
    latest: Step | None = None
    try:
        async with aclosing(steps):
            async for step in steps:
                latest = step
                if number == first:
                    worker.settle()
                number += 1
                stats = meter.step(number, step.losses, worker.peers)
                report.step(stats)
                before, there = there, progress(config, number, stats.t_s)
                end = min((each for each in (report.stop_after(), config.max_steps) if each is not None), default=inf)
                for due in range(before + 1, there + 1):
                    if due < end and due % config.snapshot_every == 0:
                        report.snapshot(due, stats.t_s, worker.peers.codec_bytes, worker.served(step.x))
                if there >= end:
                    last = report.shown_last() or (int(end) if config.asynchronous else number)
                    report.snapshot(last, stats.t_s, worker.peers.codec_bytes, worker.served(step.x))
                if config.checkpoint_every is not None and number % config.checkpoint_every == 0:
                    report.checkpoint(worker.checkpoint(number, stats.t_s, step.x))
                if there >= end:
                    break
                if report.wants_state():
                    report.state(worker.checkpoint(number, stats.t_s, step.x))
                if report.meets(number):
                    before, number = number, worker.go_on_at(await Meet(number, worker.rounds))
                    there, due = number, number - number % config.snapshot_every
                    if due > before:  # passed over by an island that has made fewer steps than another
                        report.snapshot(due, meter.t_s, worker.peers.codec_bytes, worker.served(step.x))
        for leave_others in worker.leaving:
            await leave_others()
    except LeaveNow as leave:
        if latest is not None:
            report.snapshot(leave.step, meter.t_s, worker.peers.codec_bytes, worker.served(latest.x))
    return number


def progress(config: NodeConfig, number: int, t_s: float) -> int:
    """A node's progress in steps, which ends a run and numbers its snapshots alike on all nodes.

    Nodes of an asynchronous algorithm have made different numbers of steps at one time. Their progress is counted by
    the training clock, a step each pace_ms: the steps of a node that is never slowed down.
    """
    if not config.asynchronous:
        return number
    assert config.pace_ms is not None
    return int(1000 * t_s / config.pace_ms + 1e-6)
