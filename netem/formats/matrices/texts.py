"""Latency tables as text: numbers alone, CSV with names, and the tables of Markdown."""

from __future__ import annotations

import csv
import re

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.matrices.table import Table, cell, imported
from gannet.netem.links.yaml_files import printable

LARGEST_BYTES = 2**25
_MOST = 4096
_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
_NUMBERS = re.compile(r"[-+0-9.eE\s,;]+|(nan|na|null|-|[-+0-9.eE])[-+0-9.eEnaulNAUL/\s,;]*", re.ASCII)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class Markdown:
    """Tables of cloud providers' documents."""

    name = "latencies as Markdown"
    reads = ("nodes",)

    @staticmethod
    def recognises(source: Source) -> bool:
        return "|" in source.head and bool(_tables(source.text))

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        return imported(Markdown.name, read_markdown(source.text), options)


class Named:
    """CSV with names."""

    name = "latencies as CSV"
    reads = ("nodes",)

    @staticmethod
    def recognises(source: Source) -> bool:
        return is_named_csv(source.head)

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        return imported(Named.name, read_named_csv(source.text), options)


class Numbers:
    """A matrix without names, as of PlanetLab and Seattle."""

    name = "a matrix of numbers"
    reads = ("nodes",)

    @staticmethod
    def recognises(source: Source) -> bool:
        return is_numbers(source.head)

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        return imported(Numbers.name, read_numbers(source.text), options)


def is_numbers(head: str) -> bool:
    """Whether a file that begins so is a matrix of numbers: three columns or more, and as many in every line."""
    lines = [line for line in head.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) < 2 or not all(_NUMBERS.fullmatch(line) for line in lines[:3]):
        return False
    widths = {len(_split(line)) for line in lines[:2]}
    return len(widths) == 1 and widths.pop() >= 3


def is_named_csv(head: str) -> bool:
    """Whether the first line has names, and the second one of them and then numbers."""
    lines = [line for line in head.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        return False
    header, row = (_csv([line])[0] for line in lines[:2])
    if len(header) < 3 or len(row) < 2 or not row[0]:
        return False
    named = {name for name in header[1:] if name}
    return row[0] in named and not any(_is_number(name) for name in named)


def read_numbers(text: str) -> Table:
    """A matrix without names; lines that begin with # say what it is. Raises FormatError."""
    _check(text)
    lines = [line for line in text.splitlines() if line.strip()]
    said = "\n".join(line for line in lines if line.lstrip().startswith("#"))
    rows = [
        [cell(word, f"row {number}, column {column}") for column, word in enumerate(_split(line))]
        for number, line in enumerate(ln for ln in lines if not ln.lstrip().startswith("#"))
    ]
    return Table(rows, said=said)


def read_named_csv(text: str) -> Table:
    """A CSV (or with tabs or semicolons) with names in its first row and column. Raises FormatError."""
    _check(text)
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("#")]
    table = _csv([line for line in lines if not line.startswith("#")])
    if len(table) < 3:
        raise FormatError("a table of latencies has a row of names and two more at least")
    header, *body = table
    return _named(header, body, "\n".join([*said, header[0]]), "line")


def read_markdown(text: str) -> Table:
    """The first table of a Markdown file that is one of latencies. Raises FormatError."""
    _check(text)
    tables = _tables(text)
    if not tables:
        raise FormatError("no table here has the same names in its first row and its first column")
    prose = "\n".join(line for line in text.splitlines() if not line.strip().startswith("|"))
    read = _named(tables[0][0], tables[0][1:], prose + "\n" + tables[0][0][0], "row")
    if len(tables) > 1:
        read.dropped.append(f"{len(tables) - 1} more tables of the file: the first one is read")
    return read


def _tables(text: str) -> list[list[list[str]]]:
    """The tables of Markdown with names that are in their first row and in their first column, by row and cell."""
    table: list[list[str]] = []
    found: list[list[list[str]]] = []
    for line in [*text.splitlines(), ""]:
        if line.strip().startswith("|"):
            if not _RULE.fullmatch(line.strip()):
                cells = line.strip().removeprefix("|").removesuffix("|").split("|")
                table.append([_LINK.sub(r"\1", each).replace("**", "").strip().strip("`_ ") for each in cells])
        elif table:
            found.append(table)
            table = []
    return [each for each in found if len(each) > 2 and ({row[0] for row in each[1:]} & set(each[0][1:])) - {""}]


def _named(header: list[str], body: list[list[str]], said: str, what: str) -> Table:
    names = [name for name in header[1:] if name]
    if len(set(names)) < len(names):
        raise FormatError("two columns have one name")
    columns = {name: place for place, name in enumerate(header) if place and name}
    of: dict[str, list[str]] = {}
    for number, row in enumerate(body):
        if row[0] in of:
            raise FormatError(f"{what} {number + 1}: {printable(row[0])[:60]} comes twice")
        of[row[0]] = row
    both = [name for name in names if name in of]
    if len(both) < 2:
        raise FormatError("the names of the rows are not those of the columns")
    rows = []
    for a in both:
        cells = of[a] + [""] * (len(header) - len(of[a]))
        rows.append([cell(cells[columns[b]], f"{a} to {b}") for b in both])
    table = Table(rows, both, said)
    if odd := [name for name in (*names, *of) if name not in both]:
        table.dropped.append(f"{len(odd)} names that are not both a row and a column: {', '.join(odd[:4])}")
    return table


def _split(line: str) -> list[str]:
    """Cells between tabs, semicolons or commas, an empty one is missing; else between blanks."""
    line = line.strip(" \r\n")
    for mark in ("\t", ";", ","):
        if mark in line:
            cells = line.split(mark)
            return cells[:-1] if not cells[-1].strip() and len(cells) > 1 else cells
    return line.split()


def _csv(lines: list[str]) -> list[list[str]]:
    mark = max((",", "\t", ";"), key=lines[0].count) if lines else ","
    try:
        return [[each.strip() for each in row] for row in csv.reader(lines, delimiter=mark) if row]
    except csv.Error as error:
        raise FormatError(f"not CSV: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check(text: str) -> None:
    if len(text) > LARGEST_BYTES:
        raise FormatError(f"{len(text):,} bytes, and {LARGEST_BYTES:,} at most: leave out rows")
    if (count := text.count("\n")) > 100 * _MOST:
        raise FormatError(f"{count:,} lines: this is no matrix of nodes")
