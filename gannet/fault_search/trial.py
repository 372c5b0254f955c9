"""One schedule, run on the virtual fabric and recorded from outside: what its sink, its tasks and its wire saw."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from gannet.fabrics.job import Job, Outcome
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Fault
from gannet.fabrics.virtual.time_limit import time_limit
from gannet.fault_search.kick_task import KickTask
from gannet.fault_search.schedule import Schedule
from gannet.netem.measure.certificate import Certificate
from gannet.node.tasks.base import AnyTask
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.meter import StepStats

PROCESSOR_GUARD_S = 30.0  # a run takes some hundredths of a second
WALL_GUARD_S = 600.0  # for a run that waits; what a machine stands still counts, too


class TookTooLong(Exception):
    """A run did not end within PROCESSOR_GUARD_S of processor time, or WALL_GUARD_S."""


@dataclass
class Record:
    """A Sink that keeps everything. `x` and `states`: by step, then rank; what a rank reports twice counts as last
    reported. `sent`: payload bytes by sender.
    """

    steps: dict[int, list[StepStats]] = field(default_factory=lambda: defaultdict(list))
    x: dict[int, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    states: dict[int, dict[int, dict[str, Tensor]]] = field(default_factory=lambda: defaultdict(dict))
    lines: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[tuple[int, int, str, str]] = field(default_factory=list)
    sent: Counter[int] = field(default_factory=Counter)

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None:
        self.steps[rank].append(stats)

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        self.x[step][rank] = x.clone()
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...

    def links(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        self.refusals.append((sender, receiver, verdict, detail))

    def certificate(self, certificate: Certificate) -> None: ...

    def state(self, rank: int, checkpoint: Checkpoint) -> None:
        """See run_virtual's `on_state`."""
        self.states[checkpoint.step][rank] = checkpoint.tensors

    def count(self, sender: int, receiver: int, payload_bytes: int) -> None:
        """See run_virtual's `on_send`."""
        self.sent[sender] += payload_bytes

    def digest(self) -> str:
        """Equal for runs that are equal to the bit, in everything that is reported."""
        hashed = blake2b(digest_size=16)
        steps = [(rank, stats) for rank, stats in sorted(self.steps.items()) if stats]
        hashed.update(repr((steps, self.lines, self.refusals)).encode())
        for step, by_rank in sorted(self.x.items()):
            for rank, x in sorted(by_rank.items()):
                hashed.update(repr((step, rank)).encode() + x.numpy().tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True)
class Trial:
    """What came of a schedule. `error`: a traceback where the run ended with an exception."""

    schedule: Schedule
    record: Record
    tasks: list[KickTask]
    outcome: Outcome | None
    error: str = ""


def _computed_too_long() -> TookTooLong:
    return TookTooLong(f"not over after {PROCESSOR_GUARD_S:g} s of processor time")


def _waited_too_long() -> TookTooLong:
    return TookTooLong(f"not over after {WALL_GUARD_S:g} s")


def run(schedule: Schedule) -> Trial:
    """Run a schedule, within PROCESSOR_GUARD_S of processor time and WALL_GUARD_S."""
    torch.set_num_threads(1)
    tasks = [KickTask(rank, schedule.world) for rank in range(schedule.world)]
    record, outcome, error = Record(), None, ""
    try:
        with (
            time_limit(WALL_GUARD_S, "wall", _waited_too_long),
            time_limit(PROCESSOR_GUARD_S, "processor", _computed_too_long),
        ):
            outcome = _play(schedule.job(), record, schedule.faults, tasks)
    except Exception:
        error = traceback.format_exc()
    # Parts of a graph that losses or cuts have split end after steps of their own, all under the largest number.
    for step, by_rank in record.x.items():
        for rank in [rank for rank in by_rank if record.steps[rank] and step > record.steps[rank][-1].step]:
            del by_rank[rank]
    return Trial(schedule, record, tasks, outcome, error)


def _play(job: Job, record: Record, faults: tuple[Fault, ...], tasks: Sequence[AnyTask]) -> Outcome:
    return run_virtual(job, record, faults, tasks, on_send=record.count, on_state=record.state)


@lru_cache(maxsize=64)
def alone(world: int, steps: int, optimizer: str) -> tuple[tuple[Tensor, ...], ...]:
    """x of every rank, by step from 0, where no node mixes with another: every method moves x by so much."""
    settings = {"algorithm": {"name": "local", "method": optimizer}, "codec": "fp32", "topology": "ring"}
    schedule = Schedule(0, "local", world, settings, None, 1.0, 0.0, steps, None, None, True, ())
    x = run(schedule).record.x
    return tuple(tuple(x[step][rank] for rank in range(world)) for step in range(steps + 1))
