"""Puts the text of somebody's own task into a spec, so that it travels with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gannet.node.tasks.custom.config import with_source


class TaskFileMissing(Exception):
    """A task's file that cannot be read; the message says which."""


def with_text(task: Any, folder: Path, anew: bool) -> Any:
    """A python task's settings with the text of its file, which is looked for in the spec's folder.

    A recorded spec has the text already, and keeps it, whatever the file is now; unless it is to be read `anew`.
    Other settings come back as they are. Raises TaskFileMissing.
    """
    if not isinstance(task, Mapping) or task.get("name") != "python" or not isinstance(task.get("file"), str):
        return task
    own = {key: value for key, value in task.items() if not anew or key not in ("source", "sha256")}
    if "source" in own or not own["file"].endswith(".py"):
        return own
    path = folder / Path(own["file"]).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise TaskFileMissing(f"task.file: {path}: {why}; the path is relative to the spec's folder") from None
    # A sha256 that was given is held against the text.
    return {**own, "source": text} if "sha256" in own else with_source(own, text)
