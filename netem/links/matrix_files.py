"""Reads matrices of delays, round trips, losses or rates from CSV, and says which of them a file holds.

    # round_trips_ms
    ,paris,tokyo
    paris,0,230
    tokyo,228,0

A row for each sender and a column for each receiver, with or without names. What the numbers are is said in a comment
line of its own or in the first cell. Nothing is assumed: most tables have round trips, and a link has one-way delays.
Rates have their unit in each cell (10Mbit) or in that heading (rates_mbit).
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gannet.netem.links.profile import parse_rate_bps
from gannet.netem.links.yaml_files import printable, short
from gannet.netem.regular import check_regular

MOST_NODES = 1024
NO_UNIT = "has no unit: write 10Mbit, or a line such as `# rates_mbit` at the head (bit, kbit, mbit or gbit)"
LARGEST_BYTES = 2**25
_WORDS = {
    "delays_ms": ("delays", "delays_ms", "delay_ms", "one_way", "one_way_ms", "one_way_delays_ms"),
    "round_trips_ms": ("round_trips", "round_trips_ms", "round_trip", "round_trip_ms", "rtt", "rtt_ms", "rtts_ms"),
    "losses_percent": ("losses", "losses_percent", "loss_percent"),
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words}
# "Rates (Mbit/s)", rate_kbps; a heading may have no unit, where every cell has one.
_RATES = re.compile(r"(?:rates?|bandwidths?|capacity|capacities)(?:_([kmg]?)(?:bit|bits|bps|bit_s|bits_s))?_?")


class MatrixError(ValueError):
    """A matrix that cannot be read or does not fit; the message says where and what to do."""


@dataclass(frozen=True)
class CsvMatrix:
    """`names` of rows and columns alike (none: no names), `rows` of cells, `kind`: the field they are of, or "".

    `rates` are the cells in the place of `rows` where they are rates, each with its unit.
    """

    names: tuple[str, ...]
    kind: str
    rows: list[list[float | None]]
    rates: list[list[str | None]] | None = None


def read_csv(path: Path) -> CsvMatrix:
    """The matrix in a CSV. Lines that begin with # are comments; raises MatrixError."""
    try:
        if (size := check_regular(path).stat().st_size) > LARGEST_BYTES:
            raise MatrixError(f"{path}: {size:,} bytes, and {LARGEST_BYTES:,} at most")
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        table = [[cell.strip() for cell in row] for row in csv.reader(ln for ln in lines if ln[0] != "#")]
    except OSError as error:
        raise MatrixError(f"{path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise (
            error if isinstance(error, MatrixError) else MatrixError(f"{path}: not CSV: {printable(error)}")
        ) from error
    heads = [line[1:] for line in lines if line[0] == "#"]
    names: tuple[str, ...] = ()
    corner = table[0][0] if table and table[0] and _kind(table[0][0]) else ""
    if table and (corner or any(cell and not _is_cell(cell) for cell in table[0][1:])):
        names = tuple(table[0][1:])
        if [row[0] for row in table[1:]] != list(names):
            raise MatrixError(f"{path}: the names of the rows are not those of the columns, in one order")
        heads += [corner] if corner else []
        table = [row[1:] for row in table[1:]]
    kinds = list(dict.fromkeys(kind for head in heads if (kind := _kind(head))))
    if len(kinds) > 1:
        raise MatrixError(f"{path}: says that it has {' and that it has '.join(kinds)}: keep one")
    check_size(path, len(table))
    if kinds == ["rates"] or (not kinds and any(_is_cell(cell) and not _is_number(cell) for cell in chain(*table))):
        return CsvMatrix(names, "rates", [], _rates(path, table, {unit for head in heads if (unit := _unit(head))}))
    for r, row in enumerate(table):
        for c, cell in enumerate(row):
            if cell and not _is_number(cell):
                raise MatrixError(f"{path}, row {r}, column {c}: {short(cell)} is no number")
    rows = [[float(cell) if cell else None for cell in row] for row in table]
    return CsvMatrix(names, kinds[0] if kinds else "", rows)


def _rates(path: Path, table: list[list[str]], units: set[str]) -> list[list[str | None]]:
    """The cells with their units; a number on the diagonal that is 0 is as good as none."""
    if len(units) > 1:
        raise MatrixError(f"{path}: says that its rates are in {' and in '.join(sorted(units))}: keep one")
    unit = next(iter(units), "")
    rows: list[list[str | None]] = []
    for r, row in enumerate(table):
        rows.append([])
        for c, cell in enumerate(row):
            if _is_number(cell) and (r != c or float(cell)):
                if not unit:
                    raise MatrixError(f"{path}, row {r}, column {c}: {short(cell)} {NO_UNIT}")
                cell += unit
            rows[-1].append(None if not cell or _is_number(cell) else cell)
    return rows


def kind_of(path: Path, said: str, wanted: str) -> str:
    """Which field a file's cells are of: what it says itself, or how it is used. Raises MatrixError for neither or
    two.
    """
    if said and wanted and said != wanted:
        raise MatrixError(f"{path}: says that it has {said}, and is read as {wanted}: keep one of them")
    if not (said or wanted):
        raise MatrixError(
            f"{path}: are these one-way delays, or round trips as a ping and most tables have them? Write a line "
            "`# delays_ms` or `# round_trips_ms` at its head, or say it where the file is named: `delays:` or "
            "`round_trips:` in a spec, --one-way or --round-trips on the command line"
        )
    return said or wanted


def check_size(path: Path | str, size: int) -> None:
    """Raise MatrixError for more nodes than a run can have."""
    if size > MOST_NODES:
        raise MatrixError(f"{path}: {size:,} rows; {MOST_NODES:,} at most, so leave out {size - MOST_NODES:,}")


def _kind(text: str) -> str:
    """ "Round trips (ms)" → round_trips_ms, "rate_mbit" → rates; empty: it names no field."""
    words = _words(text)
    return _KINDS.get(words) or ("rates" if _RATES.fullmatch(words) else "")


def _unit(text: str) -> str:
    """The unit of rates that a heading has: "Rates (Mbit/s)" → Mbit; empty: none."""
    found = _RATES.fullmatch(_words(text))
    return f"{found[1].replace('m', 'M').replace('g', 'G')}bit" if found and found[1] is not None else ""


def _words(text: str) -> str:
    return re.sub(r"[^a-z]+", "_", text.lower()).strip("_")


def _is_cell(text: str) -> bool:
    """Whether it is a number, or a rate with its unit."""
    if _is_number(text):
        return True
    try:
        parse_rate_bps(text)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
