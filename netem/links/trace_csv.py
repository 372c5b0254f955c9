"""Reads a trace from CSV: a line of headings, then one row a moment, which holds until the next one.

    # source: where it is from
    # duration_s: 60
    time_s,down,up,delay_ms,loss_percent
    0,20Mbit,5Mbit,40,0
    0.5,0,0,,100

`rate` stands for both `down` and `up`; rates are written as in profiles (10Mbit, or a bare number of bit/s). An empty
field means no change; a figure without a column is not part of the trace. `duration_s` may be left out: the last row
then holds as long as the one before it. Trace.to_csv writes the same format.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from gannet.netem.links.profile import parse_rate_bps
from gannet.netem.links.trace import Trace, TraceError, TracePoint, check_point

_COLUMNS = ("time_s", "rate", "down", "up", "delay_ms", "loss_percent")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,400})?|\.[0-9]{1,400}")
_WHOLE = re.compile(r"[0-9]{1,12}")


def parse_csv(text: str, name: str, where: str = "") -> Trace:
    """The trace in the text of a CSV file; `where` names the file in errors. Raises TraceError."""
    where = where or name
    notes: dict[str, str] = {}
    columns: list[str] | None = None
    points: list[TracePoint] = []
    for number, line in enumerate(text.splitlines(), start=1):
        row = line.strip()
        if row.startswith("#"):
            key, colon, value = row[1:].partition(":")
            notes |= {key.strip(): value.strip()} if colon else {}
        elif row and columns is None:
            columns = _headings(row, f"{where}, line {number}")
        elif row and columns is not None:
            points.append(_row(row, columns, points[-1] if points else None, f"{where}, line {number}"))
    if columns is None or not points:
        raise TraceError(
            f"{where}: no rows; write a heading such as {','.join(_COLUMNS[:1] + _COLUMNS[2:])}, and rows"
        )
    if len(points) > 1:
        duration_s = 2 * points[-1].at_s - points[-2].at_s
    else:
        duration_s = 1.0
    if (told := notes.get("duration_s")) is not None:
        duration_s = _number(told, f"{where}: duration_s")
    elif len(points) == 1:
        raise TraceError(f"{where}: one row alone does not say how long it holds: add a line `# duration_s: 60`")
    try:
        return Trace(name, notes.get("source", ""), tuple(points), round(duration_s, 9))
    except TraceError as error:
        raise TraceError(f"{where}: {str(error).removeprefix(f'{name}: ')}") from None


def _headings(row: str, where: str) -> list[str]:
    columns = [heading.strip() for heading in row.split(",")]
    if unknown := [heading for heading in columns if heading not in _COLUMNS]:
        raise TraceError(f"{where}: unknown column {unknown[0][:40]!r}; allowed: {', '.join(_COLUMNS)}")
    if "time_s" not in columns:
        raise TraceError(f"{where}: there is no column time_s")
    if twice := [heading for heading, count in Counter(columns).items() if count > 1]:
        raise TraceError(f"{where}: column {twice[0]} is there twice")
    if "rate" in columns and {"down", "up"} & set(columns):
        raise TraceError(f"{where}: rate and down or up say the same thing twice: keep one")
    if columns == ["time_s"]:
        raise TraceError(f"{where}: time_s alone says nothing: add rate, down, up, delay_ms or loss_percent")
    return columns


def _row(row: str, columns: list[str], before: TracePoint | None, where: str) -> TracePoint:
    cells = [cell.strip() for cell in row.split(",")]
    if len(cells) != len(columns):
        raise TraceError(f"{where}: {len(cells)} fields, but {len(columns)} headings")
    found: dict[str, float | int] = {}
    for heading, cell in zip(columns, cells, strict=True):
        if not cell:
            if before is None or heading == "time_s":
                raise TraceError(
                    f"{where}: {heading} is empty" + ("" if heading == "time_s" else " in the first row")
                )
        elif heading in ("rate", "down", "up"):
            rate_bps = _rate(cell, f"{where}: {heading}")
            found |= {f"{way}_bps": rate_bps for way in (("down", "up") if heading == "rate" else (heading,))}
        else:
            found["at_s" if heading == "time_s" else heading] = _number(cell, f"{where}: {heading}")
    point = replace(before, **found) if before is not None else TracePoint(**found)  # type: ignore[arg-type]
    if before is None and point.at_s != 0:
        raise TraceError(f"{where}: time_s is {point.at_s:g}: the first row is at 0")
    if before is not None and point.at_s <= before.at_s:
        raise TraceError(f"{where}: time_s {point.at_s:g} does not come after {before.at_s:g}")
    check_point(point, where)
    return point


def _rate(cell: str, where: str) -> int:
    try:
        rate_bps = parse_rate_bps(int(cell) if _WHOLE.fullmatch(cell) else cell)
    except (ValueError, OverflowError):
        rate_bps = None
    if rate_bps is None:
        raise TraceError(f"{where}: {cell[:40]!r} is no rate: write 10Mbit, or bit/s as a whole number")
    return rate_bps


def _number(cell: str, where: str) -> float:
    if not _NUMBER.fullmatch(cell):
        raise TraceError(f"{where}: {cell[:40]!r} is no number from 0")
    return float(cell)
