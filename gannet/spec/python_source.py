"""Puts the text of a user's own Python files into a spec, so that it travels with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from gannet.node.plugins import with_source
from gannet.node.regular import check_regular

FIELDS = ("task", "algorithm", "codec", "topology")
"""Fields of a spec that may be `{name: python, file: …}`; all but the task may also be set per player."""


class SourceMissing(Exception):
    """A Python file that cannot be read; the message says which field names it."""


def with_texts(spec: Mapping[str, Any], folder: Path, chosen: Collection[str] = ()) -> dict[str, Any]:
    """The spec with the text of every Python file that it names, which is looked for in the spec's folder.

    A recorded spec has the texts already, and keeps them, whatever the files are now, except where the command line
    has `chosen` the file: dotted keys such as "task.file". Raises SourceMissing.
    """
    whole = {**spec, **_fields(spec, "", folder, chosen)}
    players = spec.get("players")
    if isinstance(players, Mapping):
        whole["players"] = {
            name: {**own, **_fields(own, f"players.{name}.", folder, chosen)} if isinstance(own, Mapping) else own
            for name, own in players.items()
        }
    return whole


def chosen_files(overrides: Iterable[tuple[str, Any]]) -> set[str]:
    """Dotted keys of every `file` among overrides, whether it is in the key or in a mapping in the value."""
    found: set[str] = set()
    for key, value in overrides:
        if isinstance(value, Mapping):
            found |= chosen_files((f"{key}.{name}", inner) for name, inner in value.items())
        elif key.endswith(".file"):
            found.add(key)
    return found


def _fields(owner: Mapping[str, Any], path: str, folder: Path, chosen: Collection[str]) -> dict[str, Any]:
    return {
        name: _with_text(owner[name], f"{path}{name}", folder, f"{path}{name}.file" in chosen)
        for name in FIELDS
        if name in owner
    }


def _with_text(value: Any, field: str, folder: Path, chosen: bool) -> Any:
    """The settings with the text of their file; settings without one are returned unchanged."""
    if not isinstance(value, Mapping) or value.get("name") != "python" or not isinstance(value.get("file"), str):
        return value
    own = {key: given for key, given in value.items() if not chosen or key not in ("source", "sha256")}
    if "source" in own or not own["file"].endswith(".py"):
        return own
    path = folder / Path(own["file"]).expanduser()
    try:
        text = check_regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise SourceMissing(f"{field}.file: {path}: {why}; the path is relative to the spec's folder") from None
    # A given sha256 is compared with the text.
    return {**own, "source": text} if "sha256" in own else with_source(own, text)
