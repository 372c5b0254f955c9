"""Settings of a task that a user brings: a Python file named in the spec, or an installed entry point."""

from __future__ import annotations

from typing import Any, ClassVar

from gannet.node.plugins import PythonSource
from gannet.node.settings import TaskSettings


class PythonTaskConfig(PythonSource, TaskSettings):
    """A task of one's own. See docs/own-task.md."""

    what: ClassVar[str] = "task"
    group: ClassVar[str] = "gannet.tasks"

    @property
    def measured_by(self) -> dict[str, Any]:
        """The code that measures it."""
        return {"file": f"{self.file} ({self.sha256[:8]})"} if self.sha256 else {"entry": self.entry}
