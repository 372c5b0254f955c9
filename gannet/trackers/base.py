"""What a tracker is: it takes the figures of one run, and writes them in its own format."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

KINDS: dict[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""Trackers, with the packages that each needs; all are extras of these names."""

_LONG = 500  # characters of a parameter; a task's whole text is none


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker knows it: `root` is the folder for all trackers' files, `began` in seconds of the epoch.

    `parameters`: the run's spec, flat.
    """

    comparison: str
    name: str
    root: Path
    parameters: Mapping[str, Any]
    began: float = field(default_factory=time.time)

    def when(self, t_s: float) -> float:
        """The time, seconds of the epoch, that the training clock shows: set-up and scoring do not count."""
        return self.began + t_s


class Tracker(Protocol):
    """The log of one run. Steps are those of training; `t_s` is its clock. May raise anything."""

    where: str
    """Where it is and how one looks at it, a sentence."""

    def figures(self, step: int, t_s: float, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, t_s: float, file: Path) -> None:
        """A PNG of generated images."""
        ...

    def end(self, status: str) -> None:
        """Write all that is left and close. status: finished, stopped or failed."""
        ...


def check_kinds(kinds: tuple[str, ...], option: str) -> None:
    """Raises ValueError, with the fix, for a tracker that does not exist or whose packages are not installed."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"{option} {kind}: one of {', '.join(KINDS)}")
        if missing := [name for name in KINDS[kind] if find_spec(name) is None]:
            lacking = " and ".join(missing)
            raise ValueError(f"{option} {kind} needs {lacking}: pip install 'gannet-testbed[{kind}]'")


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A spec's settings by dotted names, as numbers, switches or text; those that are unset are left out."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        elif name != "source" and value is not None and value != []:
            plain = isinstance(value, bool | int | float)
            found[f"{before}{name}"] = value if plain else str(value)[:_LONG]
    return found
