"""A record of a run's training data, for its folder: runs with equal records saw the same images and labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import Inspected, inspect, labels_by_node
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


def labels_held(spec: RunSpec) -> list[dict[str, int]] | None:
    """By node, how many images of each label it trains on; {} for a server that has none.

    None where the task needs no data, or nodes in containers have data that this machine lacks. Raises ValueError for
    a node that would have too few.
    """
    if not needs_data(spec.task):
        return None
    try:
        data = inspected(spec.data)
    except FileNotFoundError:
        if not spec.fabric_kind.in_containers:
            raise
        return None
    method = spec.algorithm.traits
    served = method.worker_player is not None  # by node 0, which trains on no data
    places = [method.shard_of(rank, spec.nodes) for rank in range(spec.nodes)]
    held = labels_by_node(data, spec.data, places[0][1], spec.seed)
    return [{} if served and rank == 0 else held[share] for rank, (share, _) in enumerate(places)]


def facts_of(data: DataConfig) -> dict[str, Any]:
    """The training images' number, labels and SHA-256, read once in a process. Raises as they are read."""
    return inspected(data).facts


def inspected(data: DataConfig) -> Inspected:
    """The training images, all of them read, once in a process while their files stay as they are.

    Read before any node starts, so that missing or damaged data are noticed in time, and fetched once if wanted.
    Raises FileNotFoundError and ValueError.
    """
    whole = {"sharding": "iid", "alpha": None, "classes_per_node": None, "min_per_node": None}
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
