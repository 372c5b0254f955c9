"""Settings of a task that a user brings: a Python file named in the spec, or an installed entry point."""

from __future__ import annotations

from typing import ClassVar

from gannet.node.plugins import PythonSource


class PythonTaskConfig(PythonSource):
    """A task of one's own. See docs/own-task.md."""

    what: ClassVar[str] = "task"
    group: ClassVar[str] = "gannet.tasks"
