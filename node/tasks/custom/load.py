"""Builds a task from a user's Python: the text that came with the configuration, or an installed entry point."""

from __future__ import annotations

from contextlib import suppress

from gannet.node.plugins import built, telling
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.custom.base import Context, Task
from gannet.node.tasks.custom.config import PythonTaskConfig

_CALLED = ("initial", "gradient", "generate", "evaluate")


def build_custom(config: PythonTaskConfig, context: Context) -> AnyTask:
    """The task that the file or entry point makes. Raises PluginError."""
    wanted = ("layout", "players", "buffers", "size", "initial", "gradient", "state", "load_state", "generate")
    task: AnyTask = built(config, Task, "task", wanted, settings=dict(config.settings), context=context)
    for name in _CALLED:
        if (method := getattr(task, name, None)) is not None:
            with suppress(AttributeError):  # an object whose attributes are fixed tells without its line
                setattr(task, name, telling(method, config.title))
    return task
