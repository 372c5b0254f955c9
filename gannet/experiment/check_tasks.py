"""Tasks that a spec brings along are built once before anything starts, so that a mistake in one costs no run."""

from __future__ import annotations

from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import PythonTaskConfig
from gannet.node.tasks.custom.base import Task
from gannet.spec.load import SpecError
from gannet.spec.run_spec import ComparisonSpec


def check_custom_tasks(comparison: ComparisonSpec) -> None:
    """Build each arm's own task. Raises PluginError or SpecError, with file and line or with the field."""
    for name, spec in comparison.arms.items():
        if not isinstance(spec.task, PythonTaskConfig):
            continue
        task = build_sampler(spec.task, spec.data)
        if not isinstance(task, Task):
            continue
        if not task.uses_data and "data" in spec.model_fields_set:
            raise SpecError(f"in arm {name}: data: {spec.task.title} has no data set: leave out data")
        if spec.score is not None and type(task).measure is Task.measure:
            raise SpecError(
                f"in arm {name}: score: {spec.task.title} has no measure() to score by: write it, or give score: null"
            )
