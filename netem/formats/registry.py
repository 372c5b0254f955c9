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

# The first that recognises a file reads it: those that ask for more come before those that ask for less.
FORMATS: Sequence[Format] = cast(
    Sequence[Format],
    (
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


def recognised(source: Source) -> Format:
    """The format of a file, by its content. Raises FormatError where it is none of them."""
    if not source.head.strip():
        raise FormatError("it is empty")
    for each in FORMATS:
        if each.recognises(source):
            return each
    names = ", ".join(dict.fromkeys(each.name for each in FORMATS))
    raise FormatError(f"not a network file in a format that is known here: {names}")


def import_file(path: Path, options: Options) -> Imported:
    """What a network file holds. Raises FormatError, which names the file."""
    source = Source(path)
    try:
        found = recognised(source)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    try:
        return found.read(source, options)
    except FormatError as error:
        raise FormatError(f"{path} ({found.name}): {error}") from None
