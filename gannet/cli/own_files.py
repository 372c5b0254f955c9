"""A check's argument: a Python file of the user's, or a spec that uses such files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gannet.spec.load import load_spec, resolve
from gannet.spec.run_spec import RunSpec


def specs_with(
    file: Path, field: str, article: str, settings: Sequence[str], rest: dict[str, Any]
) -> dict[str, RunSpec]:
    """The arms of the spec in a .yaml file, or one arm whose `field` is the .py file.

    `rest`: what a spec of the .py file needs besides. `settings`: KEY=VALUE each, for the .py file alone. Raises
    ValueError, FileNotFoundError or SpecError.
    """
    if file.suffix in (".yaml", ".yml"):
        if settings:
            raise ValueError(f"--settings: a spec already has the settings of its {field}; change them there")
        return load_spec(file).arms
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give {article} {field}'s .py file, or a spec's .yaml")
    if wrong := [text for text in settings if "=" not in text]:
        raise ValueError(f"--settings {wrong[0]}: write key=value")
    raw = {field: {"name": "python", "file": file.name}, "stop": {"steps": 1}, **rest}
    return resolve(raw, str(file), [f"{field}.settings.{text}" for text in settings]).arms
