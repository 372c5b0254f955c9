"""What a user wrote wrong, in the words of a settings file: pydantic's own messages speak of tags and instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

_A_MAPPING = "a mapping such as {key: value} is wanted"
_WANTED = {
    "bool": "true or false is wanted",
    "dataclass": _A_MAPPING,
    "dict": _A_MAPPING,
    "float": "a number is wanted",
    "int": "a whole number is wanted",
    "is_instance_of": _A_MAPPING,
    "list": "a list is wanted",
    "mapping": _A_MAPPING,
    "model": _A_MAPPING,
    "model_attributes": _A_MAPPING,
    "string": "text is wanted",
    "tuple": "a list is wanted",
}
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def message_of(mistake: Mapping[str, Any]) -> str:
    """One of ValidationError.errors() as what is wanted or wrong; field and value are the caller's to add."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return (
            f"must be {words} {context[key]:g}"
            if isinstance(context[key], float)
            else f"must be {words} {context[key]}"
        )
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_not_found":
        return "say which one is wanted: give its name"
    if kind == "union_tag_invalid":
        names = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"unknown name {context['tag']!r}{hint(context['tag'], names)}; known: {', '.join(names)}"
    if kind == "literal_error":
        names = [name.strip(" '") for name in context["expected"].replace(" or ", ", ").split(",")]
        return f"must be {context['expected']}{hint(mistake['input'], names)}"
    if kind == "finite_number":
        return "a finite number is wanted"
    for ending in ("_type", "_parsing", "_from_float"):
        if kind.endswith(ending) and kind.removesuffix(ending) in _WANTED:
            return _WANTED[kind.removesuffix(ending)]
    return str(mistake["msg"]).removeprefix("Value error, ")


def hint(wrong: Any, known: Iterable[str]) -> str:
    """(did you mean X?), or nothing where no known name is close."""
    close = get_close_matches(str(wrong), list(known), n=1, cutoff=0.65)
    return f" (did you mean {close[0]}?)" if close and close[0] != str(wrong) else ""
