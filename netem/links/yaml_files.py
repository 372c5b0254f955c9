"""Reads small YAML files written by users: whatever one contains, the result is plain data or one clear error."""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

from gannet.netem import yaml12
from gannet.netem.regular import check_regular

_LARGEST_BYTES = 2**18
_MOST_VALUES = 200_000
_DEEPEST = 8

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class DocumentError(ValueError):
    """A file that cannot be read as a mapping of plain data; the message names it and says why."""


def read_mapping(path: Path, example: str) -> dict[str, Any]:
    """The mapping in a YAML file: names, strings, numbers (no NaN), booleans, null, and lists and mappings of them.

    `example` is a line that the file could contain, for messages. Raises DocumentError.
    """
    try:
        size = check_regular(path).stat().st_size
        if size > _LARGEST_BYTES:
            raise DocumentError(f"{path}: {size} bytes is more than such a file may have ({_LARGEST_BYTES})")
        data = yaml12.load(path.read_text(encoding="utf-8"))
    except DocumentError:
        raise
    except FileNotFoundError as error:
        raise DocumentError(f"no file at {path}") from error
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror or error}") from error
    # PyYAML raises many kinds of exceptions for odd documents: ValueError for a date that does not exist, KeyError
    # for `!!bool maybe`, AttributeError for `!!timestamp x`, RecursionError for a thousand brackets.
    except Exception as error:
        raise DocumentError(f"{path}: not YAML: {printable(error)}") from error
    if not isinstance(data, dict):
        raise DocumentError(f"{path}: expected a mapping such as `{example}`, got {short(data)}")
    _check_plain(path, data)
    return data


def short(value: object) -> str:
    """A value for a message: cut if long, with unprintable characters escaped."""
    return printable(_SHORT.repr(value))


def printable(text: object) -> str:
    """Text without characters that a terminal cannot or should not print."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


def _check_plain(path: Path, data: dict[Any, Any]) -> None:
    """Refuse values that JSON cannot express (dates, sets, bytes, NaN), and documents that aliases make endless."""
    left, stack = _MOST_VALUES, [(data, 0)]
    while stack:
        value, depth = stack.pop()
        left -= 1
        if len(stack) > left or depth > _DEEPEST:
            raise DocumentError(f"{path}: there is too much in it: nested too deep, or too many values")
        if isinstance(value, dict):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise DocumentError(f"{path}: {short(odd[0])} is no name of a field")
            stack += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            stack += [(item, depth + 1) for item in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise DocumentError(f"{path}: {value} is no number that a link can have")
        elif isinstance(value, str):
            if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
                raise DocumentError(f"{path}: {short(value)} has half a character")
        elif not isinstance(value, int | float | None):
            raise DocumentError(f"{path}: {short(value)} is neither a number nor text")
