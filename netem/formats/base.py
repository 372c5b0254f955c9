"""What every format of network files has in common: the file, what the caller says of it, and what was understood."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from gannet.netem.links.yaml_files import printable, short
from gannet.netem.regular import check_regular

LARGEST_BYTES = 2**26
_HEAD_BYTES = 2**16


class FormatError(ValueError):
    """A file that cannot be read as its format or does not fit a plan; the message says what and what to do."""


Nodes = int | str | Sequence[str] | None
"""Which nodes: the first N, those of these names or numbers, "largest" or "complete" for a part of a file, or all."""


@dataclass(frozen=True)
class Options:
    """What the caller says: `round_trip` of latencies (False: one way), and `unit` of numbers; None: nothing.

    `name`: which of a file's links or profiles; `bin_ms`: over how long a trace's figures are averaged; `format`: the
    name of the format, where a file could be in several.
    """

    nodes: Nodes = None
    round_trip: bool | None = None
    unit: str | None = None
    name: str | None = None
    bin_ms: int | None = None
    format: str | None = None


@dataclass(frozen=True)
class Imported:
    """What a file holds, and in words what was understood and what is dropped.

    `content`: for "links" a spec's `nodes` and `links`; for "matrix" and "profile" the fields of such a file; for
    "trace" the text of a trace's CSV. `names`: those of the nodes, by rank. `modelled`: the fabric virtual alone can
    limit all of its shared links.
    """

    format: str
    kind: Literal["links", "matrix", "profile", "trace"]
    content: Any
    names: Sequence[str] = ()
    facts: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    modelled: bool = False


@dataclass(frozen=True)
class Source:
    """A file of a user's. All of its properties raise FormatError."""

    path: Path

    @cached_property
    def head(self) -> str:
        """Its first 64 KiB; characters that are none are replaced."""
        try:
            with check_regular(self.path).open("rb") as file:
                data = file.read(_HEAD_BYTES)
        except OSError as error:
            raise FormatError(str(error.strerror or error)) from None
        if b"\0" in data:
            raise FormatError("it is no text")
        return data.decode("utf-8-sig", errors="replace")

    @cached_property
    def text(self) -> str:
        """The whole file, of up to 64 MiB."""
        try:
            if (size := check_regular(self.path).stat().st_size) > LARGEST_BYTES:
                raise FormatError(f"{size:,} bytes, and {LARGEST_BYTES:,} at most: leave out what you do not need")
            return self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise FormatError(str(error.strerror or error)) from None
        except UnicodeDecodeError as error:
            raise FormatError(f"it is no text in UTF-8: byte {error.start:,}") from None

    @cached_property
    def is_json(self) -> bool:
        """Whether it begins as an object or array of JSON."""
        return self.head.lstrip()[:1] in ("{", "[") and self.head.lstrip()[1:2] != ""

    @cached_property
    def is_xml(self) -> bool:
        """Whether it begins as XML."""
        return self.head.lstrip()[:1] == "<"

    @cached_property
    def json(self) -> Any:
        """Its value as JSON. NaN, endless numbers and names that an object has twice are refused."""
        try:
            return json.loads(self.text, parse_constant=_no_number, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            said = str(error) or type(error).__name__
            raise FormatError(
                said if isinstance(error, FormatError) else f"not JSON: {printable(said)[:200]}"
            ) from None


def check_unasked(options: Options, trip: bool = True) -> None:
    """Raise FormatError for --unit, and with `trip` for --round-trip and --one-way: the format says both itself."""
    if trip and options.round_trip is not None:
        raise FormatError(
            f"its latencies are one way, so leave out --{'round-trip' if options.round_trip else 'one-way'}"
        )
    if options.unit is not None:
        raise FormatError(f"it says its units itself, so leave out --unit {options.unit}")


class Format(Protocol):
    """A module or class that reads one format; see gannet.netem.formats.registry.

    `reads`: which of the options nodes, name and bin_ms it depends on.
    """

    name: str
    reads: Sequence[str]

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether a file is in this format, by its content."""

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """What it holds. Raises FormatError."""


def _no_number(text: str) -> Any:
    raise FormatError(f"{text} is no number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{short(double)} comes twice in one object: keep one")
    return found
