"""A step's figures on the wire: the message Step of proto/control.proto has the fields of StepStats, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from gannet.node.training.meter import StepStats
from gannet.node.wire import control_pb2

_FIGURES = tuple(figure.name for figure in fields(StepStats))


def to_message(stats: StepStats) -> control_pb2.Step:
    """The message of a step's figures."""
    return control_pb2.Step(**{name: getattr(stats, name) for name in _FIGURES})


def from_message(message: control_pb2.Step) -> StepStats:
    """The inverse of to_message."""
    return StepStats(**{name: _plain(getattr(message, name)) for name in _FIGURES})


def _plain(value: Any) -> Any:
    """Protobuf's containers are views of their message: a dict or a tuple of the same values outlives it."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, Sequence) else value
