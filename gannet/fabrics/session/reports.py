"""What a node's reports have to be. A report that is not so ends its node's connection, and nothing else.

A training process runs a task's code, so that its reports are checked like any input from outside before they are
believed. Losses may be anything: a node that diverges reports what it got.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from math import isfinite
from typing import Any

from gannet.node.wire import control_pb2

MOST_PARAMETERS = 1 << 34  # 64 GiB of float32
LARGEST_STEP = 1 << 53  # exact in a JSON reader that has doubles only
_TEXT, _LONG_TEXT = 256, 65_536
# The most that a checkpoint may have beside two vectors a node (a method's replicas): vectors of x's length (of the
# optimizer, of averages and error memories), and bytes of anything else.
_OWN_VECTORS, _OTHER_BYTES = 16, 64 << 20
_MOST_PLAYERS, _MOST_LOSSES = 64, 256


class _Wrong(Exception):
    """A field that cannot be; the text names it."""


def wrong_with(report: control_pb2.Report, world: int) -> str | None:
    """Why a report of a run of `world` nodes is refused; None: it is not. Not for a node's first message, Hello."""
    kind = report.WhichOneof("kind")
    if kind not in _CHECKS:
        return "a second hello" if kind == "hello" else "a report of no known kind"
    try:
        _CHECKS[kind](getattr(report, kind), world)
    except _Wrong as wrong:
        return f"{kind}: {wrong}"
    return None


def wrong_size(header: control_pb2.SnapshotHeader, world: int, parameters: int) -> str | None:
    """Why a deposit's length is refused; None: it is not."""
    x_bytes = 4 * parameters
    if header.checkpoint:
        limit = (2 * world + _OWN_VECTORS) * x_bytes + _OTHER_BYTES
        return f"{header.bytes} bytes, limit {limit}" if header.bytes > limit else None
    return None if header.bytes == x_bytes else f"{header.bytes} bytes, a snapshot has {x_bytes}"


def endpoint(text: str) -> None:
    """Raise ValueError where a text is not an IPv4 address and a port."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise ValueError("not ADDRESS:PORT")
    IPv4Address(host)


def _endpoint(text: str, name: str) -> None:
    try:
        endpoint(text)
    except ValueError:
        raise _Wrong(f"{name} is {shown(text)}, not an IPv4 address and a port") from None


def _seconds(message: Any, *names: str) -> None:
    for name in names:
        value = getattr(message, name)
        if not (isfinite(value) and value >= 0):
            raise _Wrong(f"{name} is {value}")


def _step(message: Any) -> None:
    if message.step > LARGEST_STEP:
        raise _Wrong(f"step is {message.step}")


def _rank(message: Any, name: str, world: int) -> None:
    if getattr(message, name) >= world:
        raise _Wrong(f"{name} is {getattr(message, name)} of {world} nodes")


def _text(message: Any, name: str, most: int) -> None:
    if len(getattr(message, name)) > most:
        raise _Wrong(f"{name} has {len(getattr(message, name))} characters, limit {most}")


def shown(text: str) -> str:
    """A text of others for a message, cut if it is long."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _ready(ready: control_pb2.Ready, world: int) -> None:
    _endpoint(ready.mesh_address, "mesh_address")
    _endpoint(ready.metrics_address, "metrics_address")
    _seconds(ready, "setup_s")
    if not 0 < ready.parameters <= MOST_PARAMETERS:
        raise _Wrong(f"parameters is {ready.parameters}")


def _a_step(step: control_pb2.Step, world: int) -> None:
    _step(step)
    _seconds(step, "t_s", "compute_s", "wait_s", "other_s")
    if len(step.loss) > _MOST_LOSSES or any(len(name) > _TEXT for name in step.loss):
        raise _Wrong(f"loss has more than {_MOST_LOSSES} names, or one of more than {_TEXT} characters")
    if len(step.missing) > world or any(rank >= world for rank in step.missing):
        raise _Wrong(f"missing names more than the {world} nodes")


def _finished(finished: control_pb2.Finished, world: int) -> None:
    if finished.steps > LARGEST_STEP:
        raise _Wrong(f"steps is {finished.steps}")
    _seconds(finished, "t_s", "memory_mb")


def _failed(failed: control_pb2.Failed, world: int) -> None:
    _step(failed)
    _text(failed, "reason", _LONG_TEXT)


def _refused(refused: control_pb2.Refused, world: int) -> None:
    _rank(refused, "sender", world)
    _rank(refused, "receiver", world)
    _text(refused, "verdict", _TEXT)
    _text(refused, "detail", _LONG_TEXT)


def _at_meeting(meeting: control_pb2.AtMeeting, world: int) -> None:
    _step(meeting)
    if not 0 < len(meeting.rounds) <= _MOST_PLAYERS or any(number > LARGEST_STEP for number in meeting.rounds):
        raise _Wrong(f"rounds are not those of 1 to {_MOST_PLAYERS} players")


def _nothing(message: Any, world: int) -> None:
    """It has no fields."""


def _only_a_step(message: Any, world: int) -> None:
    _step(message)


_CHECKS: dict[str, Callable[[Any, int], None]] = {
    "ready": _ready,
    "step": _a_step,
    "finished": _finished,
    "failed": _failed,
    "refused": _refused,
    "warmed": _nothing,
    "waiting": lambda waiting, world: _rank(waiting, "source", world),
    "can_leave": _only_a_step,
    "state_offered": lambda offered, world: _rank(offered, "rank", world),
    "state_fetched": _nothing,
    "can_meet": _only_a_step,
    "at_meeting": _at_meeting,
    "healed": _nothing,
}
