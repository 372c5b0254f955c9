"""A record of a run's training data, for its folder: runs with equal records saw the same images and labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import Inspected, inspect
from gannet.node.tasks import needs_data
from gannet.spec.run_spec import RunSpec


def data_of(spec: RunSpec) -> dict[str, Any] | None:
    """The run's training data, by which runs can be compared; None where its task needs no data.

    Nodes in containers may have data that this machine lacks: then only the reason is known.
    """
    if not needs_data(spec.task):
        return None
    try:
        return facts_of(spec.data)
    except FileNotFoundError as error:
        if not spec.fabric_kind.in_containers:
            raise
        return {"name": spec.data.name, "sha256": None, "why": str(error)}


def facts_of(data: DataConfig) -> dict[str, Any]:
    """The training images' number, labels and SHA-256, read once in a process. Raises as they are read."""
    return inspected(data).facts


def inspected(data: DataConfig) -> Inspected:
    """The training images, all of them read, once in a process while their files stay as they are.

    Read before any node starts, so that missing or damaged data are noticed in time, and fetched once if wanted.
    Raises FileNotFoundError and ValueError.
    """
    whole = {"sharding": "iid", "alpha": None, "classes_per_node": None}
    return _inspected(data.model_copy(update=whole), _state(data))


@cache
def _inspected(data: DataConfig, state: tuple[tuple[str, int, int], ...]) -> Inspected:
    return inspect(data)


def _state(data: DataConfig) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the files that a user may change while this process lasts."""
    root = Path(data.root or "").expanduser()
    if data.name == "image-folder":
        files = sorted(path for path in root.rglob("*") if path.is_file())
    else:
        files = [root] if data.from_npz and root.is_file() else []
    return tuple((str(path), found.st_size, found.st_mtime_ns) for path in files if (found := path.stat()))
