"""Measurements of each step. A figure is declared in StepStats and measured in Meter.

The same declaration is the message on the wire (gannet.node.wire.step, proto/control.proto), the line of steps.jsonl
and the record that the report reads (gannet.ledger.records.Step). Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from gannet.node.training.peers import Peers

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]
LAYERS = ("codec", "grpc", "interface")  # layers that count bytes: figures `…_bytes`, from the payload to the device


@dataclass(frozen=True)
class StepStats:
    """The cost of one step on one node; `t_s` on the training clock at the step's end.

    Bounds are checked where a file is read. A figure added later has a default, for the files without it.
    """

    step: int  # counted from 1
    t_s: Seconds
    loss: dict[str, float] = field(default_factory=dict)  # by player; not finite in a run that diverges
    compute_s: Seconds = 0.0  # inside gradients, pace included
    wait_s: Seconds = 0.0  # blocked on peers
    other_s: Seconds = 0.0
    codec_bytes: Bytes = 0
    grpc_bytes: Bytes = 0
    interface_bytes: Bytes = 0
    missing: tuple[int, ...] = ()  # ranks whose message was absent from a mix of this step


@dataclass
class Meter:
    """Counters of a fabric while it performs effects; read and reset by the loop at each step."""

    clock: Callable[[], float]
    network: Callable[[], tuple[int, int]] = lambda: (0, 0)
    compute_s: float = 0.0
    wait_s: float = 0.0
    _zero: float = 0.0
    _seen: tuple[float, int, int, int] = field(default=(0.0, 0, 0, 0))

    def begin(self, codec_bytes: int, t_s: float = 0.0) -> None:
        """Set all readings to now: the training clock begins here, at `t_s`."""
        self.compute_s = self.wait_s = 0.0
        self._zero = self.clock() - t_s
        self._seen = (t_s, *self.network(), codec_bytes)

    @property
    def t_s(self) -> float:
        """The training clock: seconds of training, those before the checkpoint that this run resumes from too."""
        return self.clock() - self._zero

    def step(self, number: int, loss: dict[str, float], peers: Peers) -> StepStats:
        """Measurements since the last step."""
        now, (grpc, interface), codec = self.t_s, self.network(), peers.codec_bytes
        then, grpc_then, interface_then, codec_then = self._seen
        stats = StepStats(
            step=number,
            t_s=now,
            loss=loss,
            compute_s=self.compute_s,
            wait_s=self.wait_s,
            other_s=max(0.0, now - then - self.compute_s - self.wait_s),
            codec_bytes=codec - codec_then,
            grpc_bytes=grpc - grpc_then,
            interface_bytes=interface - interface_then,
            missing=tuple(sorted(peers.missing)),
        )
        self._seen = (now, grpc, interface, codec)
        self.compute_s = self.wait_s = 0.0
        peers.missing.clear()
        return stats
