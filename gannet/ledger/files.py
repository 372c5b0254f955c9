"""Reads single files of a run folder strictly: every error names the file, the line and the field.

Only the last line of a run that died may be cut short; that is noted, not an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from gannet.netem import yaml12
from gannet.netem.regular import check_regular
from gannet.node.mistakes import message_of

Model = TypeVar("Model")


class LedgerError(ValueError):
    """A file of a run folder is malformed. The text names the file, the line if there is one, and the mistake."""


def read_yaml(path: Path) -> tuple[str, dict[str, Any]]:
    """(text, mapping) of a YAML file; empty when it is missing."""
    if not path.exists():
        return "", {}
    try:
        text = check_regular(path).read_text(encoding="utf-8")
        content = yaml12.load(text)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LedgerError(f"{path}: not text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise LedgerError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}") from error
    if content is not None and not isinstance(content, dict):
        raise LedgerError(f"{path}: expected a mapping of settings, got {type(content).__name__}")
    return text, content or {}


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when it is missing."""
    if not path.exists():
        return None
    try:
        content = json.loads(check_regular(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits, or as many brackets
        where = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LedgerError(f"{path}{where}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise LedgerError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def lines(path: Path, notes: list[str], cut_allowed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON-lines file; nothing when it is missing."""
    if not path.exists():
        return
    try:
        opened = check_regular(path).open("rb")
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error
    with opened as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                if cut_allowed and not line.endswith(b"\n"):
                    notes.append(f"{path.name} ends in half a line ({number}): it was cut off there")
                    return
                raise LedgerError(f"{path} line {number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise LedgerError(f"{path} line {number}: expected a JSON object, got {type(record).__name__}")
            yield number, record


def models(path: Path, model: type[Model], notes: list[str], cut_allowed: bool) -> Iterable[Model]:
    """Each line of a JSON-lines file as a model; `notes` collects what was cut short."""
    return (validate(model, record, path, number) for number, record in lines(path, notes, cut_allowed))


def validate(model: type[Model], record: dict[str, Any], path: Path, number: int | None) -> Model:
    """The record as a model; LedgerError names file, line (if any) and field."""
    try:
        return _adapter(model).validate_python(record)  # type: ignore[no-any-return, arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = f" line {number}" if number is not None else ""
        name = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f" (got {str(first['input'])[:60]!r})"
        raise LedgerError(f"{path}{where}: field {name}: {message_of(first)}{got}") from error


@cache
def _adapter(model: type[Model]) -> TypeAdapter[Model]:
    """Checks records against a pydantic model or a dataclass."""
    return TypeAdapter(model)
