"""What happens to a run's nodes, as its controller hears it (gannet.fabrics.session.controller)."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
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
class _Deposit:
    """`recorded`: None where the node does not wait for the disk."""

    recorded: Recorded = field(default=None, compare=False, kw_only=True)

    def done(self) -> None:
        """It is on the disk."""
        if self.recorded is not None:
            with suppress(InvalidStateError):  # its node has gone meanwhile
                self.recorded.set_result(None)


@dataclass(frozen=True)
class Deposited(_Deposit):
    """A node's state at a step: x is a flat float32 tensor."""

    rank: int
    step: int
    t_s: float
    codec_bytes: int
    x: Tensor


@dataclass(frozen=True)
class Checkpointed(_Deposit):
    """A node's checkpoint after a step, packed (see gannet.node.training.checkpoint)."""

    rank: int
    step: int
    data: bytes


Event = Joined | CameAgain | Reported | Left | Deposited | Checkpointed
