"""A run that its controller left behind, and what a run needs for another controller to take it up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gannet.fabrics.recovery.known import Known
from gannet.netem.measure.certificate import Certificate
from gannet.netem.process import clock_name
from gannet.node.wire import control_pb2


@dataclass
class Past:
    """A run that its controller left behind, as far as this diary tells.

    `ready`: the last of each rank. `reports`: of nodes that finished, failed or refused something, in order. `known`:
    by rank. `steps`, `t_s`, `lost`, `away_s` (when the controller was last there, of the training clock) and
    `certificate` come from the run folder (gannet.experiment.take_up).
    """

    run: str
    cluster: str
    facts: dict[str, Any]
    moment: dict[str, Any]
    verifiers: dict[int, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    ready: dict[int, control_pb2.Ready] = field(default_factory=dict)
    reports: list[tuple[int, control_pb2.Report]] = field(default_factory=list)
    stopping: bool = False
    last_step: int | None = None
    steps: dict[int, int] = field(default_factory=dict)
    t_s: dict[int, float] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    away_s: float = 0.0
    certificate: Certificate = field(default_factory=Certificate)

    def now_s(self) -> float:
        """The training clock."""
        if self.moment["clock"] == clock_name():
            since_s = time.monotonic() - float(self.moment["monotonic_s"])
        else:  # the controller is on another machine, or this one was started again
            since_s = time.time() - float(self.moment["time_s"])
        return float(self.moment["t_s"]) + max(0.0, since_s)

    @property
    def finished(self) -> set[int]:
        """Ranks of nodes that have trained to the end."""
        return {rank for rank, report in self.reports if report.HasField("finished")}

    @property
    def known(self) -> dict[int, Known]:
        """Nodes that may still be there, by rank."""
        return {
            rank: Known(self.verifiers[rank], ready.parameters, ready.name, self.numbers[rank])
            for rank, ready in self.ready.items()
            if rank not in self.lost
        }


@dataclass(frozen=True)
class Recovery:
    """Of a run on a fabric whose controller can be started again while nodes train.

    `path`: of the diary. `grace_s`: how long nodes train on meanwhile; 0: they do not. `cluster`: what shows that a
    run is this cluster's. `past`: the run to take up.
    """

    path: Path
    grace_s: float = 0.0
    cluster: str = ""
    past: Past | None = None

    @property
    def diary(self) -> Path | None:
        """Where to write; None: nowhere."""
        return self.path if self.grace_s > 0 else None
