"""What happens to a run's nodes, as its controller hears it (gannet.fabrics.session.controller)."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from torch import Tensor

from gannet.node.wire import control_pb2

Recorded = Future[None] | None


@dataclass(frozen=True)
class Joined:
    """A node has a rank and is building its task. `verifier`: of its key, see `verifier_of`."""

    rank: int
    pid: int
    verifier: str = field(default="", compare=False)


@dataclass(frozen=True)
class CameAgain:
    """A node that trained on while its controller was away is connected to this one."""

    rank: int


@dataclass(frozen=True)
class Reported:
    """Any report of a node after its Hello."""

    rank: int
    report: control_pb2.Report


@dataclass(frozen=True)
class Left:
    """A node's connection ended; `reason` is empty where it had finished."""

    rank: int
    reason: str


@dataclass(frozen=True)
class Deposited:
    """A node's state at a step: x is a flat float32 tensor.

    `recorded`: to be done once it is on the disk; None where the node does not wait for that.
    """

    rank: int
    step: int
    t_s: float
    codec_bytes: int
    x: Tensor
    recorded: Recorded = field(default=None, compare=False)


@dataclass(frozen=True)
class Checkpointed:
    """A node's checkpoint after a step, packed (see gannet.node.training.checkpoint)."""

    rank: int
    step: int
    data: bytes
    recorded: Recorded = field(default=None, compare=False)


Event = Joined | CameAgain | Reported | Left | Deposited | Checkpointed
