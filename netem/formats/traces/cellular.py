"""Logs of drive tests: UCC's 4G and 5G data sets (G-NetTrack; Raca et al. 2018, 2020) and MTU's 5G uploads."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.traces.intervals import OF_PAYLOAD, Intervals, head_lines, lines_of, number
from gannet.netem.links.yaml_files import short

_NONE = ("-", "", "nan", "NaN")
_UCC_TIME = re.compile(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}_[0-9]{2}\.[0-9]{2}\.[0-9]{2}")
_MTU_TIME = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9:]{8}) [A-Z]{2,5} ([0-9]{4})")


def cells_of(line: str, where: str) -> list[str]:
    """The cells of a line of CSV. Raises FormatError."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error as error:
        raise FormatError(f"{where}: {error}") from None


class _Second(NamedTuple):
    at_s: float
    sums: dict[str, tuple[float, int]]
    rows: int
    where: str


def _seconds(rows: Iterator[tuple[str, float, dict[str, float | None]]]) -> Iterator[_Second]:
    """Rows of one second together: sums and counts of each figure that they have."""
    present: _Second | None = None
    for where, at_s, figures in rows:
        if present is not None and at_s < present.at_s:
            raise FormatError(f"{where}: its time comes before that of the row before")
        if present is None or at_s > present.at_s:
            if present is not None:
                yield present
            present = _Second(at_s, {}, 0, where)
        for field, value in figures.items():
            if value is not None:
                total, count = present.sums.get(field, (0.0, 0))
                present.sums[field] = total + value, count + 1
        present = present._replace(rows=present.rows + 1)
    if present is not None:
        yield present


def _held(found: Intervals, rows: Iterator[tuple[str, float, dict[str, float | None]]]) -> list[str]:
    """Put rows into `found`: each second's mean holds until the next row, the last one second. Returns facts."""
    before: _Second | None = None
    gaps = doubled = count = 0
    longest_s = 0.0
    for second in _seconds(rows):
        count += second.rows
        doubled += second.rows > 1
        if before is not None:
            length_s = second.at_s - before.at_s
            gaps += length_s > 1
            longest_s = max(longest_s, length_s)
            found.add(length_s, before.where, **{f: total / n for f, (total, n) in before.sums.items()})
        before = second
    if before is not None:
        found.add(1.0, before.where, **{f: total / n for f, (total, n) in before.sums.items()})
    facts = [f"{count:,} rows; a row holds until the next one, the last for 1 s"]
    if doubled:
        facts.append(f"seconds with several rows: {doubled:,}, which are averaged")
    if gaps:
        facts.append(f"gaps: {gaps:,}, up to {longest_s:g} s, over which the row before holds")
    return facts


class Ucc:
    """Timestamp, DL_bitrate and UL_bitrate in kbit/s, PINGAVG (a round trip, ms)."""

    name = "UCC 4G/5G log"
    reads = ("bin_ms",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether the headings have Timestamp and DL_bitrate."""
        lines = head_lines(source, 1)
        headings = [cell.strip(' "') for cell in lines[0].split(",")] if lines else []
        return {"Timestamp", "DL_bitrate"} <= set(headings)

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """Rates both ways, and half of each ping each way."""
        if options.unit is not None:
            raise FormatError(f"its rates are in kbit/s: leave out --unit {options.unit}")
        share = 1.0 if options.round_trip is False else 0.5
        scales = {
            "DL_bitrate": ("down_bps", 1000.0),
            "UL_bitrate": ("up_bps", 1000.0),
            "PINGAVG": ("delay_ms", share),
        }
        idle = [0]
        headings: list[str] = []

        def rows() -> Iterator[tuple[str, float, dict[str, float | None]]]:
            for count, line in lines_of(source):
                where = f"line {count}"
                cells = cells_of(line, where)
                if not headings:
                    headings.extend(cells)
                    if not {"Timestamp", "DL_bitrate"} <= set(headings):
                        raise FormatError(f"{where}: columns Timestamp and DL_bitrate were expected")
                    continue
                if len(cells) != len(headings):
                    raise FormatError(f"{where}: {len(cells)} fields, but {len(headings)} headings")
                row = dict(zip(headings, cells, strict=True))
                idle[0] += row.get("State") == "I"
                figures = {
                    field: None if row[column] in _NONE else number(row[column], f"{where}: {column}") * scale
                    for column, (field, scale) in scales.items()
                    if column in row
                }
                yield where, _ucc_seconds(row["Timestamp"], where), figures

        found = Intervals(("down_bps", "up_bps", "delay_ms"), options.bin_ms)
        facts = _held(found, rows())
        found.fields = tuple(field for field in found.fields if found.sums[field].seconds)
        if not found.fields:
            raise FormatError("no row has a bit rate or a ping")
        if "delay_ms" in found.fields:
            said = "taken as one way, as you say" if share == 1 else "round trips, halved"
            facts.append(f"PINGAVG: {said}; where a row has none, the one before holds")
        facts.append("rates: kbit/s that the phone received and sent")
        if idle[0]:
            facts.append(f"rows in state I (idle): {idle[0]:,}, whose rates are what was asked for, not a limit")
        unread = [each for each in headings if each not in (*scales, "Timestamp")]
        dropped = [OF_PAYLOAD]
        if unread:
            dropped.append(f"columns {', '.join(each[:30] for each in unread[:30])}")
        return found.imported(source, Ucc.name, facts, dropped)


class Mtu:
    """A date as `date` writes it, and RATE(MBit/s) upwards."""

    name = "MTU 5G log"
    reads = ("bin_ms",)

    @staticmethod
    def recognises(source: Source) -> bool:
        """Whether the headings have RATE(MBit/s)."""
        lines = head_lines(source, 1)
        return bool(lines) and "RATE(MBIT/S)" in lines[0].upper().replace(" ", "")

    @staticmethod
    def read(source: Source, options: Options) -> Imported:
        """Rates upwards."""
        if options.unit is not None or options.round_trip is not None:
            raise FormatError("it has no latencies, and says its unit: leave out --unit, --round-trip, --one-way")
        headings: list[str] = []
        column = [0]

        def rows() -> Iterator[tuple[str, float, dict[str, float | None]]]:
            for count, line in lines_of(source):
                where = f"line {count}"
                cells = cells_of(line, where)
                if not headings:
                    headings.extend(cell.upper().replace(" ", "") for cell in cells)
                    if "RATE(MBIT/S)" not in headings:
                        raise FormatError(f"{where}: a column RATE(MBit/s) was expected, commas between columns")
                    column[0] = headings.index("RATE(MBIT/S)")
                    continue
                if len(cells) <= column[0]:
                    raise FormatError(f"{where}: {len(cells)} fields, but {len(headings)} headings")
                cell = cells[column[0]]
                rate = None if cell in _NONE else number(cell, f"{where}: RATE(MBit/s)") * 1e6
                yield where, _mtu_seconds(cells, where), {"up_bps": rate}

        found = Intervals(("up_bps",), options.bin_ms)
        facts = _held(found, rows())
        if not found.sums["up_bps"].seconds:
            raise FormatError("no row has a rate")
        unread = [
            each for n, each in enumerate(headings) if n != column[0] and "TIME" not in each and "DATE" not in each
        ]
        dropped = [OF_PAYLOAD, *([f"columns {', '.join(each[:30] for each in unread[:30])}"] if unread else [])]
        return found.imported(source, Mtu.name, [*facts, "direction: up"], dropped)


def _ucc_seconds(text: str, where: str) -> float:
    try:
        if _UCC_TIME.fullmatch(text):
            return (datetime.strptime(text, "%Y.%m.%d_%H.%M.%S") - datetime(1970, 1, 1)).total_seconds()
    except ValueError:
        pass
    raise FormatError(f"{where}: {short(text)} is no time such as 2019.12.14_10.16.30")


def _mtu_seconds(cells: list[str], where: str) -> float:
    for cell in cells:
        if match := _MTU_TIME.fullmatch(cell):
            try:
                moment = datetime.strptime(" ".join(match.groups()), "%b %d %H:%M:%S %Y")
            except ValueError:
                break
            return (moment - datetime(1970, 1, 1)).total_seconds()
    raise FormatError(f"{where}: has no time such as Wed Dec 15 16:04:38 UTC 2021")
