"""Runs jobs in tests: a sink that remembers everything, and jobs on the virtual fabric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gannet.fabrics.job import Job, Outcome
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Fault
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.measure.certificate import Certificate
from gannet.node.config import NodeConfig
from gannet.node.tasks.base import AnyTask
from gannet.node.training.meter import StepStats


class Memory:
    """A Sink that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: dict[int, list[StepStats]] = {}
        self.snapshots: dict[int, dict[int, Tensor]] = {}
        self.checkpoints: dict[int, dict[int, bytes]] = {}
        self.refusals: list[tuple[int, int, str, str]] = []
        self.link_lines: list[dict[str, Any]] = []
        self.certificates: list[Certificate] = []

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None:
        self.steps.setdefault(rank, []).append(stats)

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        self.snapshots.setdefault(step, {})[rank] = x.clone()
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        self.checkpoints.setdefault(step, {})[rank] = data

    def links(self, line: dict[str, Any]) -> None:
        self.link_lines.append(line)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        self.refusals.append((sender, receiver, verdict, detail))

    def certificate(self, certificate: Certificate) -> None:
        self.certificates.append(certificate)

    def states(self, step: int) -> np.ndarray:
        """All nodes' x at a step, shape (nodes, size)."""
        return torch.stack([x for _, x in sorted(self.snapshots[step].items())]).numpy()


def virtual_job(
    algorithm: dict[str, Any],
    world: int = 4,
    steps: int | None = 20,
    link: dict[str, Any] | None = None,
    stop_s: float | None = None,
    **config: Any,
) -> Job:
    """A job for the virtual fabric; every step leaves a snapshot."""
    profile = LinkProfile.model_validate(link or {"rate": "10Mbit", "delay_ms": 25})
    settings = NodeConfig.model_validate(
        {
            "run": "test",
            "algorithm": algorithm,
            "pace_ms": 10,
            "snapshot_every": 1,
            "max_steps": steps,
            **config,
        }
    )
    return Job(settings, world, LinkState(profile=profile), stop_s=stop_s)


def play(job: Job, tasks: Sequence[AnyTask] | None = None, faults: Sequence[Fault] = ()) -> tuple[Memory, Outcome]:
    """Run a job on the virtual fabric with the given tasks, or the one that its config names."""
    memory = Memory()
    return memory, run_virtual(job, memory, faults, tasks)
