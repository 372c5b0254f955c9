"""The text of a spec as nested mappings: read strictly, and overridden by arms and by --set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from gannet.netem.links.profile import PROFILE_FIELDS


class _OneOfEachKey(yaml.SafeLoader):
    """Refuses a key that appears twice: the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key in seen:
                where = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {where}: {key!r} appears twice; keep one of them")
            if isinstance(key, (str, int)):
                seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str) -> Any:
    """The content of a YAML text. Raises YAMLError, also for a key that appears twice."""
    loader = _OneOfEachKey(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


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
        if key == "links" and isinstance(value, Mapping) and isinstance(old, Mapping) and "profile" in value:
            # A profile takes the place of a profile's fields.
            old = {name: each for name, each in old.items() if name not in PROFILE_FIELDS}
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
