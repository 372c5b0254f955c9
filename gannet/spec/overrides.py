"""Overrides of a spec's nested mappings, by arms and by --set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gannet.netem.links.profile import PROFILE_FIELDS
from gannet.node.settings import by_name

_STARTS = {"run", "file", "players"}
_NAMED = {"algorithm", "data", "mixing", "task", "topology"}  # settings that may be a name alone


def nest(key: str, value: Any) -> dict[str, Any]:
    """A dotted key's override as nested mappings: a.b=1 is {a: {b: 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings; other values replace, and so does a mapping whose `name` differs."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if key in _NAMED and isinstance(value, Mapping):
            old = by_name(old)
        if key == "links" and isinstance(value, Mapping) and isinstance(old, Mapping) and "profile" in value:
            # A profile takes the place of a profile's fields.
            old = {name: each for name, each in old.items() if name not in PROFILE_FIELDS}
        if key == "start_from" and isinstance(value, Mapping) and isinstance(old, Mapping):
            named = value.keys() & _STARTS  # one kind of source takes the place of another
            old = old if not named or named & old.keys() else {}
        if (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            merged[key] = merge(old, value)
        elif isinstance(value, Mapping) and isinstance(old, str) and key == "links" and "profile" not in value:
            merged[key] = {"profile": old, **value}
        else:
            merged[key] = value
    return merged
