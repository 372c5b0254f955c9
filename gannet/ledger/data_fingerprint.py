"""A record of a run's training data, for its folder: runs with equal records saw the same images and labels."""

from __future__ import annotations

from functools import cache
from typing import Any

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import fingerprint
from gannet.node.tasks import needs_data
from gannet.spec.run_spec import RunSpec


def data_of(spec: RunSpec) -> dict[str, Any] | None:
    """The run's training data, by which runs can be compared; None where its task needs no data.

    Read here before any node starts, so that a missing data set is noticed in time, and fetched once if wanted. Nodes
    in containers may have data that this machine lacks.
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
    return _fingerprint(data.model_copy(update={"sharding": "iid", "alpha": None, "classes_per_node": None}))


_fingerprint = cache(fingerprint)
