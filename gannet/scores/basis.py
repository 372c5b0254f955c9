"""What a score is taken against, by the names of a spec's fields; scores of different bases are not comparable."""

from __future__ import annotations

from typing import Any

from gannet.ledger.data_fingerprint import facts_of
from gannet.node.data.config import DataConfig
from gannet.node.tasks import needs_data
from gannet.node.tasks.base import AnyTask, Evaluates
from gannet.node.tasks.config import TaskConfig, TaskSetting


def scores_itself(task: TaskSetting, sampler: AnyTask) -> bool:
    """Whether the task measures its own parameters; images of all others are compared with the data's."""
    return not isinstance(task, TaskConfig) and isinstance(sampler, Evaluates)


def basis_of(task: TaskSetting, data: DataConfig, sampler: AnyTask) -> dict[str, Any]:
    """The basis as far as a spec tells it: the task's own measure, and the data where a score depends on them."""
    itself = scores_itself(task, sampler)
    found = {"task.name": task.name} | {f"task.{key}": value for key, value in task.measured_by.items()}
    if not itself:
        found = {"task.name": "gan"}  # whatever made the images
    if needs_data(task) and (not itself or getattr(sampler, "uses_data", True)):
        found |= {"data.name": data.name, "data.image_size": data.image_shape[1], "data.compose": data.compose}
        if data.name == "image-folder":  # its SHA-256 is of the files, not of the pixels
            found |= {"data.value_range": data.value_range, "data.unreadable": data.unreadable}
    return found


def measured_basis(task: TaskSetting, data: DataConfig, sampler: AnyTask) -> dict[str, Any]:
    """The basis with the SHA-256 of the data, where it has data that this machine can read."""
    found = basis_of(task, data, sampler)
    if "data.name" not in found:
        return found
    try:
        return found | {"data.sha256": facts_of(data)["sha256"]}
    except FileNotFoundError:  # a task may read its data on the nodes only
        return found
