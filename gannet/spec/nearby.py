"""Files that a spec names by relative paths: found in the current folder, or else in the spec's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIELDS = ("links", "topology", "data")
"""Fields of a spec whose texts may be paths; those of Python files and of weights are the spec's folder's alone."""


def with_nearby_files(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The spec with the paths of what is in `folder` and not in the current one.

    Only a text with a separator or a suffix can be a path: a profile's name stays a name, whatever lies there.
    """
    return {**spec, **{name: _found(spec[name], folder) for name in FIELDS if name in spec}}


def _found(value: Any, folder: Path) -> Any:
    if isinstance(value, (int, float)):  # of which a matrix has a million
        return value
    match value:
        case {"name": "python"}:  # its file is the spec's folder's alone, and keeps its name in messages
            return value
        case Mapping():
            return {key: _found(each, folder) for key, each in value.items()}
        case list() | tuple():
            return [_found(each, folder) for each in value]
        case str() if "\n" not in value and (Path(value).suffix or len(Path(value).parts) > 1):
            try:
                return str(folder / value) if not Path(value).exists() and (folder / value).exists() else value
            except (OSError, ValueError):  # too long for a name, or a null byte: no path
                return value
        case _:
            return value
