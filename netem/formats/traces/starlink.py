"""LENS (Zhao, Pan 2024): pings and IRTT probes over Starlink, -1 where one was lost."""

from __future__ import annotations

from math import sqrt

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.traces.cellular import cells_of
from gannet.netem.formats.traces.intervals import Intervals, head_lines, lines_of, number
from gannet.netem.links.yaml_files import short

name = "LENS latencies"
reads = ("bin_ms",)
_BIN_MS = 100


def _headings(line: str) -> list[str]:
    return [cell.strip(' "').lower().split("(")[0].strip() for cell in line.split(",")]


def recognises(source: Source) -> bool:
    """Whether the headings are timestamp and rtt, and uplink and downlink for IRTT."""
    lines = head_lines(source, 1)
    found = _headings(lines[0]) if lines else []
    return _are_ours(found)


def _are_ours(headings: list[str]) -> bool:
    return headings[:2] == ["timestamp", "rtt"] and set(headings[2:]) <= {"uplink", "downlink"}


def read(source: Source, options: Options) -> Imported:
    """Delay and loss in bins of 100 ms, or `bin_ms`."""
    if options.unit is not None:
        raise FormatError(f"its latencies are in ms: leave out --unit {options.unit}")
    if options.round_trip is False:
        raise FormatError("its column rtt has round trips: leave out --one-way")
    bin_s = (options.bin_ms or _BIN_MS) / 1000
    found = Intervals(("delay_ms", "loss_percent"))
    headings: list[str] = []
    unit_s, begin_s, before_s = 1.0, 0.0, 0.0
    number_of_bin, sent, lost, total_ms, last = 0, 0, 0, 0.0, ""
    probes = lost_all = 0
    spread = [0.0, 0.0, 0.0]  # uplink's and downlink's sums, and how many
    for count, line in lines_of(source):
        where = f"line {count}"
        if not headings:
            headings = _headings(line)
            if not _are_ours(headings):
                raise FormatError(f"{where}: headings timestamp and rtt were expected, not {short(line)}")
            unit_s = 1e-9 if "ns" in line.lower().split(",")[0] else 1.0
            continue
        cells = cells_of(line, where)
        if len(cells) != len(headings):
            raise FormatError(f"{where}: {len(cells)} fields, but {len(headings)} headings")
        row = dict(zip(headings, (number(cell, where) for cell in cells), strict=True))
        at_s = int(cells[0]) * unit_s if unit_s != 1 and cells[0].isdigit() else row["timestamp"] * unit_s
        begin_s = begin_s if probes else at_s
        before_s = before_s if probes else at_s
        if at_s < before_s:
            raise FormatError(f"{where}: its time comes before that of the row before")
        gone = [key for key in headings[1:] if row[key] == -1]
        if any(row[key] < 0 for key in headings[1:] if key not in gone):
            raise FormatError(f"{where}: a latency below 0; -1 alone says that a probe was lost")
        if (into := int((at_s - begin_s) / bin_s + 1e-6)) > number_of_bin:
            _settle(found, bin_s * (into - number_of_bin), sent, lost, total_ms, last)
            number_of_bin, sent, lost, total_ms = into, 0, 0, 0.0
        probes, sent, before_s, last = probes + 1, sent + 1, at_s, where
        if gone:
            lost, lost_all = lost + 1, lost_all + 1
        else:
            total_ms += row["rtt"] / 2
            if {"uplink", "downlink"} <= row.keys():
                spread = [spread[0] + row["uplink"], spread[1] + row["downlink"], spread[2] + 1]
    if not probes:
        raise FormatError("it has no rows")
    _settle(found, bin_s, sent, lost, total_ms, last)
    if not found.sums["delay_ms"].seconds:
        raise FormatError("every probe was lost: there is no delay to take from it")
    facts = [
        f"{probes:,} probes, {lost_all:,} of them lost, in bins of {1000 * bin_s:g} ms (--bin-ms)",
        "rtt: round trips, halved",
        "loss: a probe is lost on either way, so each way loses 1 - √(1 - share lost)",
    ]
    dropped = ["delays of single probes within a bin"]
    if spread[2]:
        dropped.append(
            f"that ways differ: uplink {spread[0] / spread[2]:.4g} ms and downlink {spread[1] / spread[2]:.4g} ms on "
            "average; a trace has one delay for both"
        )
    return found.imported(source, name, facts, dropped)


def _settle(found: Intervals, seconds: float, sent: int, lost: int, total_ms: float, where: str) -> None:
    """A bin, and what follows until the next one that has probes."""
    delay_ms = total_ms / (sent - lost) if sent > lost else None
    found.add(seconds, where, delay_ms=delay_ms, loss_percent=100 * (1 - sqrt(1 - lost / sent)))
