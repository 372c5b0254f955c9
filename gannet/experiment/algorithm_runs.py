"""Runs for `gannet algorithm check`: records of runs on the virtual fabric, and a limit for those that would never
end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gannet.fabrics.job import Job, Outcome
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Fault
from gannet.fabrics.virtual.time_limit import time_limit
from gannet.netem.measure.certificate import Certificate
from gannet.node.plugins import USER_ERRORS
from gannet.node.tasks.custom.findings import same_bits
from gannet.node.topologies.weights import Edge
from gannet.node.training.meter import StepStats

LIMIT_S = 30.0  # of processor time: these runs take a second or two


class Hung(BaseException):
    """A run has computed for too long. Not an Exception: no algorithm may catch it."""


class Played:
    """A Sink that records a run. `sent`: payload bytes by edge; `error`: what ended it early."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.steps: dict[int, list[StepStats]] = {}
        self.states: dict[int, dict[int, Tensor]] = {}
        self.checkpoints: dict[int, dict[int, bytes]] = {}
        self.refusals: list[tuple[int, int, str, str]] = []
        self.sent: Counter[Edge] = Counter()
        self.outcome = Outcome("failed")
        self.error, self.hung = "", False

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None:
        self.steps.setdefault(rank, []).append(stats)

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        self.states.setdefault(step, {})[rank] = x.clone()
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        self.checkpoints.setdefault(step, {})[rank] = data

    def links(self, line: dict[str, Any]) -> None: ...

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        self.refusals.append((sender, receiver, verdict, detail))

    def certificate(self, certificate: Certificate) -> None: ...

    @property
    def all_steps(self) -> Iterator[StepStats]:
        """The steps of all nodes."""
        return (stats for steps in self.steps.values() for stats in steps)

    def x(self, step: int) -> Tensor:
        """All nodes' x after a step, shape (nodes, size), float64."""
        return torch.stack([x for _, x in sorted(self.states[step].items())]).double()

    def mean(self, step: int) -> Tensor:
        """The nodes' mean after a step."""
        return self.x(step).mean(0)


def play(job: Job, faults: Sequence[Fault] = (), limit_s: float = LIMIT_S) -> Played:
    """Run a job on the virtual clock; errors in it are recorded in the result."""
    played = Played(job.config.asynchronous)

    def count(source: int, to: int, payload_bytes: int) -> None:
        played.sent[Edge(source, to)] += payload_bytes

    torch.set_num_threads(1)
    try:
        with time_limit(limit_s, "processor", Hung):
            played.outcome = run_virtual(job, played, faults, on_send=count)
    except Hung:
        done = max((stats.step for stats in played.all_steps), default=0)
        played.error, played.hung = f"no end after {limit_s:g} s of computing; the last step was {done}", True
    except USER_ERRORS as error:
        played.error = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return played


def bits_differ(one: Played, other: Played, since: int = 1) -> str:
    """Where two runs first differ, in words; empty where every bit is equal."""
    for step in sorted(step for step in one.states if step >= since):
        for rank, x in sorted(one.states[step].items()):
            there = other.states.get(step, {}).get(rank)
            if there is None or not same_bits(x, there):
                return f"node {rank} is elsewhere after step {step}"
    return ""
