"""The foreign collective: DistributedDataParallel of PyTorch, its communication hooks, and gloo under them.

A task's gradient has been computed, and paced, before DDP sees it. A module with a parameter of each tensor's true
shape takes it in by a backward pass of Σ ⟨p, g_p⟩, whose gradient is g_p to the bit; so DDP's reducer, its bucket and
the real hook run as in any training with DDP. The difference: DDP would send the first buckets while the rest of the
backward pass still runs. There is one bucket here, as there is no computation to overlap several with, and each would
cost another 2(N−1) delays. The overlap could hide at most a gradient's time, which is little compared with an
exchange over a slow link.

gloo blocks its caller, so it has a separate thread; the training thread waits for that thread, or for news. The
waiting time includes the hook's work. A node takes some 120 MB more than with other methods: DDP imports
torch._dynamo.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import nullcontext, suppress
from datetime import timedelta
from math import prod
from typing import Any, TypeVar

import torch
import torch._dynamo  # DDP imports it: over a second, better spent now than while peers wait
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from gannet.node.config import ExchangeConfig
from gannet.node.exchange.blocking_mailbox import RunAborted
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.methods.ddp import DdpConfig
from gannet.node.process.power_sgd import PowerSgd
from gannet.node.training.effects import LeaveNow, PeerLost
from gannet.node.training.peers import CollectiveFailed

T = TypeVar("T")
_NEWS_S = 10.0  # for the controller to say which node is gone, once gloo has noticed that one is


class DdpMean:
    """Averages gradients over all nodes. One of these a process at a time, for gloo's group is the process's.

    `layout`: of the task. `on_wait(source, step)` is called once when a step has waited for `limits.patience_s`.
    `join`, `average`, `state`, `load_state`, `settle` and `close` are for the training thread, `lose` and `abort` for
    any.
    """

    def __init__(
        self,
        config: DdpConfig,
        layout: Sequence[TensorSpec],
        rank: int,
        world: int,
        limits: ExchangeConfig,
        on_wait: Callable[[int, int], None],
    ) -> None:
        self._config, self._rank, self._world, self._limits, self._on_wait = config, rank, world, limits, on_wait
        specs = [spec for spec in layout if spec.player != BUFFERS]
        shapes = [spec.shape for spec in specs]
        self._movers = [spec.player for spec in specs]
        self._module = _Inner(shapes)
        self._compressed: PowerSgd | None = None
        if config.hook == "powersgd":
            self._compressed = PowerSgd(config.rank, config.start, list(self._module.parameters()))
        self._sizes = [prod(shape) for shape in shapes]
        self._step, self._what = 0, ""
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: Future[Any] | None = None
        self._news = threading.Event()
        self._lost: PeerLost | None = None
        self._aborted: str | None = None
        self._leaving: LeaveNow | None = None
        threading.Thread(target=self._serve, name="gloo", daemon=True).start()

    # For the training thread.

    def join(self, address: str, device: str | None) -> None:
        """Meet all other nodes and average once, off the clock: connections are open and DDP's buckets final.

        `address`: host:port where rank 0 holds the store in which nodes find one another. `device`: the network
        device to send on. Raises CollectiveFailed when it does not come about, RunAborted as `average` does.
        """
        if device is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = device
        self._what = f"gloo's group at {address} cannot be joined"
        self._call(lambda: self._connect(address))

    def average(self, field: Tensor, buffers: Tensor | None, active: Collection[str]) -> tuple[Tensor, Tensor | None]:
        """The nodes' mean of `field` (flat float32) as the hook has it, and the exact one of `buffers`.

        `active`: the players that move, the same on all nodes; `field` is zero for the others. Raises
        CollectiveFailed when a node is missing, RunAborted when the controller ended the run.
        """
        self._step += 1
        self._what = f"gloo's all-reduce of step {self._step} cannot be completed"
        return self._call(lambda: self._reduce(field, buffers, active))

    def settle(self) -> None:
        """Return once all nodes have received all that was sent."""
        if self._leaving is not None:
            return
        self._call(lambda: dist.all_reduce(torch.zeros(1)))

    def close(self) -> None:
        """Leave the group. Where gloo still waits for a peer, only the end of the process ends that."""
        if self._pending is None and dist.is_initialized():
            dist.destroy_process_group()

    def state(self) -> dict[str, Tensor]:
        """The steps averaged so far, and what PowerSGD keeps from step to step; to be called between averages."""
        kept = {} if self._compressed is None else self._compressed.state()
        return {"step": torch.tensor(self._step), **kept}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken; after `join`. Raises ValueError where it is of other buckets."""
        step = int(state.pop("step"))
        if self._compressed is not None:
            self._compressed.load_state(state)
        self._step = step

    # For threads that have news.

    def lose(self, rank: int, reason: str) -> None:
        """That peer is gone: without it there is no average."""
        with self._lock:
            self._lost = self._lost or PeerLost(rank, reason)
            self._interrupt(self._lost)
        self._news.set()

    def abort(self, reason: str) -> None:
        """End the run: what waits, or will, raises RunAborted."""
        with self._lock:
            self._aborted = reason
            self._interrupt(RunAborted(reason))
        self._news.set()

    def leave(self, step: int) -> None:
        """The run is over in the middle of an average: what waits, or will, raises LeaveNow."""
        with self._lock:
            self._leaving = LeaveNow(step)
            self._interrupt(self._leaving)
        self._news.set()

    def _interrupt(self, error: Exception) -> None:
        if self._pending is not None:
            with suppress(InvalidStateError):
                self._pending.set_exception(error)

    # gloo's thread.

    def _serve(self) -> None:
        while True:
            work, future = self._calls.get()
            try:
                result = work()
            except Exception as error:
                with suppress(InvalidStateError):
                    future.set_exception(error)
            else:
                with suppress(InvalidStateError):
                    future.set_result(result)

    def _call(self, work: Callable[[], T]) -> T:
        future: Future[T] = Future()
        with self._lock:
            if self._aborted is not None:
                raise RunAborted(self._aborted)
            if self._leaving is not None:
                raise self._leaving
            if self._lost is not None:
                raise self._failed(self._lost)
            self._pending = future
        self._calls.put((work, future))
        try:
            result = self._outcome(future)
        except PeerLost as lost:
            raise self._failed(lost) from lost
        except FutureTimeout:
            raise self._failed(f"it took more than {self._limits.round_deadline_s:.1f} s") from None
        except RuntimeError as error:  # gloo's: a connection broke, or its own time is up
            if self._step:
                self._news.wait(_NEWS_S)
            if self._aborted is not None:
                raise RunAborted(self._aborted) from error
            if self._leaving is not None:
                raise self._leaving from error
            raise self._failed(self._lost or str(error).partition(". This is typically")[0]) from error
        self._pending = None
        return result

    def _outcome(self, future: Future[T]) -> T:
        patience_s = self._limits.patience_s
        try:
            return future.result(patience_s)
        except FutureTimeout:
            if self._step:  # around gloo's ring, parts come from the next rank
                self._on_wait((self._rank + 1) % self._world, self._step)
        return future.result(self._limits.round_deadline_s - patience_s)

    def _failed(self, why: PeerLost | str) -> CollectiveFailed:
        if not isinstance(why, PeerLost):
            return CollectiveFailed(f"{self._what}: {why}")
        return CollectiveFailed(
            f"{self._what} without rank {why.rank} ({why.reason}); "
            "a gossip algorithm (dp-oadam, dposg) continues without a lost peer"
        )

    def _connect(self, address: str) -> None:
        # A little more than this node's own patience, so that its own error comes first.
        timeout = timedelta(seconds=self._limits.round_deadline_s + 1)
        dist.init_process_group("gloo", f"tcp://{address}", timeout, self._world, self._rank)
        megabytes = 4 * sum(self._sizes) // 2**20 + 1
        # Every node has made the same module by itself: there is nothing to send around first.
        self._ddp = DistributedDataParallel(self._module, bucket_cap_mb=megabytes, init_sync=False)
        if self._config.hook == "fp16":
            self._ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
        elif self._compressed is not None:
            self._ddp.register_comm_hook(None, self._compressed.hook)
        for _ in range(2):  # at its second pass DDP lays its buckets out again, in the order it saw in the first
            self._reduce(torch.zeros(sum(self._sizes)), None, self._movers)
        if self._compressed is not None:
            self._compressed.begin()

    def _reduce(self, field: Tensor, buffers: Tensor | None, active: Collection[str]) -> tuple[Tensor, Tensor | None]:
        mean = statistics = None
        if buffers is not None:
            mean = buffers / self._world
            statistics = dist.all_reduce(mean, async_op=True)
        for parameter in self._module.parameters():
            parameter.grad = None
        idle = [number for number, player in enumerate(self._movers) if player not in active]
        over = nullcontext() if self._compressed is None else self._compressed.passing_over(idle)
        with over, torch.enable_grad():
            self._ddp(torch.split(field, self._sizes)).backward()
        gradients = [parameter.grad for parameter in self._module.parameters()]
        if statistics is not None:
            statistics.wait()
        return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]), mean


class _Inner(nn.Module):
    """⟨p, g⟩ of all parameters p, whose gradient is g."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.tensors = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)

    def forward(self, gradients: Sequence[Tensor]) -> Tensor:
        return torch.stack([(p.flatten() * g).sum() for p, g in zip(self.tensors, gradients, strict=True)]).sum()
