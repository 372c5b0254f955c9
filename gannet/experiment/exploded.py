"""Notices numbers that are finite and cannot be right, as a run records them: such a run is not trusted.

A peer's garbage, or a learning rate that is too large, drives parameters to 1e30 without a NaN. What a run can reach
is known where every step is an OAdam step and every exchange a weighted mean (Method.reach): ten times that is more
than codecs' rounding explains. Elsewhere the limit is 2^24 times the values that it began with (at least 1): float32,
of 24 bits, then has no digit left of them. Running statistics are not parameters, and may have any size.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from torch import Tensor

from gannet.fabrics.job import Job
from gannet.netem.measure.certificate import Certificate
from gannet.node.players.config import parts_of
from gannet.node.tasks import build_sampler
from gannet.node.training.meter import StepStats
from gannet.spec.run_spec import RunSpec

_SLACK = 10.0
_LOST_DIGITS = 2.0**24


class Exploded:
    """A Sink that looks at every step's losses and every snapshot's parameters for the first that are wrong."""

    def __init__(self, spec: RunSpec, job: Job) -> None:
        sampler = build_sampler(spec.task, spec.data)
        begin = sampler.initial()
        if job.start_weights is not None:
            begin = job.start_weights.put_into(begin, sampler.layout)
        self._players = dict(sampler.players)
        parts = parts_of(spec, self._players) or dict.fromkeys(self._players, spec)
        self._methods = {player: part.algorithm.traits for player, part in parts.items()}
        self._optimizer = spec.optimizer
        self._begin = {player: _largest(begin[where]) for player, where in self._players.items()}
        self._losses: dict[int, str] = {}
        self._values: dict[int, str] = {}

    @property
    def reasons(self) -> list[str]:
        """Why the run is not trusted, in words; of each node the first of both kinds."""
        return [self._losses[rank] for rank in sorted(self._losses)] + [
            self._values[rank] for rank in sorted(self._values)
        ]

    def limit(self, player: str, step: int) -> float:
        """The largest absolute value that a parameter of that player may have after so many steps."""
        begin, reach = self._begin[player], self._methods[player].reach(self._optimizer, player, step)
        return _LOST_DIGITS * max(1.0, begin) if reach is None else _SLACK * (begin + reach)

    def step(self, rank: int, stats: StepStats) -> None:
        """Look at the losses."""
        wrong = {player: loss for player, loss in stats.loss.items() if not isfinite(loss)}
        if wrong and rank not in self._losses:
            which = ", ".join(f"{player} {loss}" for player, loss in wrong.items())
            self._losses[rank] = f"the loss of node {rank} was not finite from step {stats.step} on: {which}"

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Look at the parameters; never ends the run."""
        if step == 0:  # the same on all nodes, and what the task or the spec has them begin with
            self._begin = {player: _largest(x[where]) for player, where in self._players.items()}
        if step == 0 or rank in self._values:
            return False
        for player, where in self._players.items():
            largest, limit = _largest(x[where]), self.limit(player, step)
            if not largest <= limit:
                self._values[rank] = (
                    f"the {player}'s parameters at node {rank} had grown to {largest:.3g} by step {step}, from "
                    f"{self._begin[player]:.3g} at the start; no such run gets beyond {limit:.3g}"
                )
                return False
        return False

    def phase(self, text: str) -> None: ...

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...

    def links(self, line: dict[str, Any]) -> None: ...

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None: ...

    def certificate(self, certificate: Certificate) -> None: ...


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
