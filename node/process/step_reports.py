"""What a training loop reports (see gannet.node.training.loop), passed on to the controller and the metrics."""

from __future__ import annotations

import logging

from torch import Tensor

from gannet.node.config import NodeConfig
from gannet.node.exchange import GrpcExchange
from gannet.node.exchange.blocking_mailbox import RunAborted
from gannet.node.process.controller_client import ControlLine
from gannet.node.process.last_step import LastStep
from gannet.node.process.metrics import NodeMetrics
from gannet.node.process.returns import Returns
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.loop import progress
from gannet.node.training.meter import StepStats
from gannet.node.wire import control_pb2
from gannet.node.wire.step import to_message

log = logging.getLogger("gannet.node.process.node_process")


class StepReports:
    """For the training thread, which a run that is over leaves by RunAborted. `steps`: the last step made."""

    def __init__(
        self,
        config: NodeConfig,
        rank: int,
        line: ControlLine,
        exchange: GrpcExchange,
        last_step: LastStep,
        returns: Returns,
        metrics: NodeMetrics,
    ) -> None:
        self._config, self._rank, self._line, self._exchange = config, rank, line, exchange
        self._last_step, self._returns, self._metrics = last_step, returns, metrics
        self.steps = 0

    def step(self, stats: StepStats) -> None:
        """Report a step."""
        self.steps = stats.step
        self._last_step.reach(progress(self._config, stats.step, stats.t_s))
        self._returns.meeting.reach(stats.step)
        self._metrics.step(stats)
        self._line.post(step=to_message(stats))
        self._line.outbox.room()
        self._check()

    def snapshot(self, step: int, t_s: float, codec_bytes: int, x: Tensor) -> None:
        """Send a snapshot to the controller in the background."""
        log.debug("snapshot after step %d", step)
        run = self._config.run
        header = control_pb2.SnapshotHeader(run=run, rank=self._rank, step=step, t_s=t_s, codec_bytes=codec_bytes)
        self._line.outbox.room()
        self._line.deposit(header, x)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint to the controller in the background."""
        log.debug("checkpoint after step %d", checkpoint.step)
        run, step = self._config.run, checkpoint.step
        header = control_pb2.SnapshotHeader(run=run, rank=self._rank, step=step, checkpoint=True)
        self._line.outbox.room()
        self._line.deposit_checkpoint(header, checkpoint)

    def stop_after(self) -> int | None:
        """The last step, once the controller has named it; waits for it if this node may not continue before."""
        last = self._last_step.last_step()
        self._check()
        return last

    def shown_last(self) -> int | None:
        """The number under which to leave the last step, where islands have made different numbers of steps."""
        return self._last_step.shown

    def wants_state(self) -> bool:
        """Whether a node that comes back waits for this node's state."""
        return self._returns.wants_state()

    def state(self, checkpoint: Checkpoint) -> None:
        """Offer it this state."""
        self._returns.state(checkpoint)

    def meets(self, step: int) -> bool:
        """Whether all meet after this step; waits where the controller has yet to say so."""
        due = self._returns.meeting.due(step)
        self._check()
        self._exchange.inbox.impatience.moves()
        return due

    def _check(self) -> None:
        if (why := self._exchange.inbox.aborted()) is not None:
            raise RunAborted(why)
