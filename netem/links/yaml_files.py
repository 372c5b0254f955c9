"""Reads small YAML files written by users: whatever one contains, the result is plain data or one clear error."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gannet.netem import yaml12
from gannet.netem.regular import check_regular

_LARGEST_BYTES = 2**18
# A matrix of a thousand nodes has a million numbers. Below the other limit they are read as all YAML is.
_LARGEST_MATRIX_BYTES, _SMALL_BYTES = 2**25, 2**16
_NUMBER = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", re.ASCII)
# A list in its own right: behind a dash, a bracket, a comma or a colon, and at the end of what it stands in.
_ROW = re.compile(r"([-\[,:][ \t\r\n]*)\[([^\[\]{}\"'#]*)\](?=[ \t\r\n]*(?:[,\]\r\n]|\Z))")
_MARK = "\ue000row"
_WANTED = {
    "float": "a number is wanted",
    "int": "a whole number is wanted",
    "string": "text is wanted",
    "tuple": "a list is wanted",
    "model": "a mapping such as {key: value} is wanted",
}
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_MOST_VALUES = 200_000
_DEEPEST = 8

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class DocumentError(ValueError):
    """A file that cannot be read as a mapping of plain data; the message names it and says why."""


def read_mapping(path: Path, example: str, rows: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file: names, strings, numbers (no NaN), booleans, null, and lists and mappings of them.

    `example` is a line that the file could contain, for messages. `rows`: it may be large where that is lists of
    numbers, in brackets. Raises DocumentError.
    """
    try:
        size, most = check_regular(path).stat().st_size, _LARGEST_MATRIX_BYTES if rows else _LARGEST_BYTES
        if size > most:
            raise DocumentError(f"{path}: {size:,} bytes is more than such a file may have ({most:,})")
        text, lists = path.read_text(encoding="utf-8"), list[tuple[str, list[Any]]]()
        if rows and size > _SMALL_BYTES:
            text, lists = _apart(text)
            if len(text) > _LARGEST_BYTES:
                raise DocumentError(
                    f"{path}: {len(text):,} bytes besides rows of numbers in brackets, and {_LARGEST_BYTES:,} at "
                    "most: write each row as [0, 12.5, null], or the matrix as CSV"
                )
        data = yaml12.load(text)
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
    return _joined(data, lists) if lists else data


def _apart(text: str) -> tuple[str, list[tuple[str, list[Any]]]]:
    """The text with a mark for each list of plain numbers, and these: as text, and their values.

    A parser of YAML takes minutes for a million numbers.
    """
    lists: list[tuple[str, list[Any]]] = []

    def mark(found: re.Match[str]) -> str:
        cells = [cell.strip() for cell in found[2].split(",")]
        if not all(_NUMBER.fullmatch(cell) or cell in ("null", "~") for cell in cells):
            return found[0]
        whole = [None if cell in ("null", "~") else _number(cell) for cell in cells]
        lists.append((f"[{found[2]}]", whole))
        return f"{found[1]}{_MARK}{len(lists) - 1}"

    return _ROW.sub(mark, text.replace(_MARK, "?")), lists


def _number(cell: str) -> float | int:
    return int(cell) if cell.lstrip("+-").isdigit() else float(cell)


def _joined(value: Any, lists: list[tuple[str, list[Any]]]) -> Any:
    """The value with the lists in the places of their marks; within a text, as text."""
    if isinstance(value, dict):
        return {key: _joined(item, lists) for key, item in value.items()}
    if isinstance(value, list):
        return [_joined(item, lists) for item in value]
    if isinstance(value, str) and _MARK in value:
        if found := re.fullmatch(rf"{_MARK}([0-9]+)", value):
            return lists[int(found[1])][1]
        return re.sub(rf"{_MARK}([0-9]+)", lambda found: lists[int(found[1])][0], value)
    return value


def short(value: object) -> str:
    """A value for a message: cut if long, with unprintable characters escaped."""
    return printable(_SHORT.repr(value))


def complaint(mistake: Mapping[str, Any]) -> str:
    """One of ValidationError.errors() as what is wanted, in the words of a file, without field and value."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        limit = context[key]
        return f"must be {words} {limit:g}" if isinstance(limit, float) else f"must be {words} {limit}"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    wanted = _WANTED.get(kind.removesuffix("_type").removesuffix("_from_float"))
    return wanted or str(mistake["msg"]).removeprefix("Value error, ")


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
