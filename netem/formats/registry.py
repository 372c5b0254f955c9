"""The formats of network files, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from gannet.netem.formats.base import Format, FormatError, Imported, Options, Source
from gannet.netem.formats.graphs import (
    core_xml,
    cross_silo,
    kollaps,
    miniedit,
    shadow,
    simgrid,
    sndlib,
    topology_zoo,
)
from gannet.netem.formats.matrices import objects, texts
from gannet.netem.formats.single_links import SINGLE_LINKS

# The first that recognises a file reads it: those that ask for more come before those that ask for less.
FORMATS: Sequence[Format] = cast(
    Sequence[Format],
    (
        *SINGLE_LINKS,
        kollaps,
        simgrid,
        core_xml,
        sndlib,
        shadow,
        cross_silo,
        topology_zoo,
        miniedit,
        objects,
        texts.Markdown,
        texts.Named,
        texts.Numbers,
    ),
)


def recognised(source: Source, named: str | None = None) -> Format:
    """The format of a file, by its content or as `named`. Raises FormatError where it is none of them, or several."""
    if named is not None:
        return _named(named)
    if not source.head.strip():
        raise FormatError("it is empty")
    single = [each for each in cast(Sequence[Format], SINGLE_LINKS) if each.recognises(source)]
    if len(single) > 1:
        both = " or ".join(f"--format '{each.name}'" for each in single)
        raise FormatError(f"could be {' or '.join(each.name for each in single)}: say which, by {both}")
    for each in single or FORMATS[len(SINGLE_LINKS) :]:
        if each.recognises(source):
            return each
    raise FormatError(f"not a network file in a format that is known here: {_names()}")


def _named(name: str) -> Format:
    for each in FORMATS:
        if each.name.lower() == name.lower():
            return each
    raise FormatError(f"--format {name}: known are {_names()}")


def _names() -> str:
    return ", ".join(each.name for each in FORMATS)


def _read_by(found: Format, options: Options) -> Options:
    """The options, none of which is one that this format does not read."""
    for each in ("name", "bin_ms", "nodes"):
        if getattr(options, each) is not None and each not in found.reads:
            raise FormatError(f"leave out --{each.replace('_', '-')}, which nothing in this format depends on")
    return options


def import_file(path: Path, options: Options) -> Imported:
    """What a network file holds. Raises FormatError, which names the file."""
    source = Source(path)
    try:
        found = recognised(source, options.format)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    try:
        return found.read(source, _read_by(found, options))
    except FormatError as error:
        raise FormatError(f"{path} ({found.name}): {error}") from None
