"""Settings of a task that somebody brings: a Python file named in the spec, or an installed entry point."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from gannet.node.settings import Settings

ENTRY_POINTS = "gannet.tasks"


def fingerprint(source: str) -> str:
    """SHA-256 of a task's text, in hex."""
    return sha256(source.encode()).hexdigest()


class PythonTaskConfig(Settings):
    """A task of one's own. See docs/own-task.md.

    The file's text goes with the configuration, so that every node runs the same text, in containers and on other
    machines too; what it imports must be installed there. An entry point has to be installed on every node.
    """

    name: Literal["python"]
    file: str | None = Field(
        default=None, pattern=r"[^/]\.py$", description="a .py file, relative to the spec's folder"
    )
    entry: str | None = Field(default=None, description=f"name of an installed entry point of group {ENTRY_POINTS}")
    settings: dict[str, Any] = Field(default_factory=dict, description="what the task itself lets a spec choose")
    source: str | None = Field(default=None, description="the file's text; put in when a spec is read")
    sha256: str | None = Field(default=None, description="of the text; checked wherever the text arrives")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.entry is None):
            raise ValueError("a python task is either a file (file: my_task.py) or an entry point (entry: its name)")
        if self.entry is not None and (self.source is not None or self.sha256 is not None):
            raise ValueError("source and sha256 belong to a file: leave them out where entry is given")
        if self.file is not None and self.source is None:
            raise ValueError(
                f"the text of {self.file} is missing: a spec file puts it in when it is read; in Python, use "
                "gannet.node.tasks.custom.config.with_source"
            )
        if self.source is not None and fingerprint(self.source) != self.sha256:
            raise ValueError(
                f"the text of {self.file} is not the one that sha256 {self.sha256} belongs to: it was changed; "
                "leave out source and sha256 to take the file as it is now"
            )
        if self.source is not None:
            self._compile(self.source)
        return self

    def _compile(self, source: str) -> None:
        try:
            compile(source, str(self.file), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes
            line = getattr(error, "lineno", None) or 1
            raise ValueError(f"{self.file}:{line}: {getattr(error, 'msg', error)}; this is not Python") from None

    @property
    def title(self) -> str:
        """For messages: the file, or the entry point."""
        return str(self.file or self.entry)


def with_source(task: dict[str, Any], text: str) -> dict[str, Any]:
    """The settings `task` of a python task with its file's text put in."""
    return {**task, "source": text, "sha256": fingerprint(text)}
