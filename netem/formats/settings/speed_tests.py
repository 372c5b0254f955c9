"""Tables of speed tests, a row a test: rates in Mbit/s and a round trip in ms (as in Paul et al., SIGCOMM 2021)."""

from __future__ import annotations

import re

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.settings.profiles import Fields
from gannet.netem.formats.traces.cellular import cells_of
from gannet.netem.formats.traces.intervals import head_lines, lines_of, number

name = "speed tests"
reads: tuple[str, ...] = ()
_COLUMNS = {"down": r"down(link|load)?_mbps", "up": r"up(link|load)?_mbps", "latency": r"(latency|ping|rtt)_ms"}


def _columns(line: str) -> dict[str, int]:
    headings = [cell.strip(' "').lower() for cell in line.split(",")]
    return {
        field: next(n for n, each in enumerate(headings) if re.fullmatch(pattern, each))
        for field, pattern in _COLUMNS.items()
        if any(re.fullmatch(pattern, each) for each in headings)
    }


def recognises(source: Source) -> bool:
    """Whether the headings have downlink_Mbps and uplink_Mbps, and no time of a trace."""
    lines = head_lines(source, 1)
    return bool(lines) and "time_s" not in lines[0] and {"down", "up"} <= _columns(lines[0]).keys()


def read(source: Source, options: Options) -> Imported:
    """The means of all tests, as a profile; half of the round trip each way."""
    if options.unit is not None:
        raise FormatError(f"its columns have their units: leave out --unit {options.unit}")
    columns: dict[str, int] = {}
    headings: list[str] = []
    sums: dict[str, list[float]] = {}
    rows = skipped = 0
    for count, line in lines_of(source):
        where = f"line {count}"
        cells = cells_of(line, where)
        if not headings:
            headings, columns = cells, _columns(line)
            continue
        if len(cells) != len(headings):
            raise FormatError(f"{where}: {len(cells)} fields, but {len(headings)} headings")
        rows += 1
        for field, at in columns.items():
            if not cells[at]:
                skipped += 1
                continue
            value = number(cells[at], f"{where}: {headings[at][:30]}")
            if value < 0:
                raise FormatError(f"{where}: {headings[at][:30]} is below 0")
            total = sums.setdefault(field, [0.0, 0.0, value, value])
            total[:] = [total[0] + value, total[1] + 1, min(total[2], value), max(total[3], value)]
    if not sums:
        raise FormatError("it has no rows")
    share = 1.0 if options.round_trip is False else 0.5
    fields, facts = Fields(), [f"rows: {rows:,}, a test each"]
    for field, (added, tests, least, most) in sums.items():
        mean, unit = added / tests, "ms" if field == "latency" else "Mbit/s"
        facts.append(f"{field}: mean {mean:.7g} {unit}, minimum {least:.7g}, maximum {most:.7g}")
        if field == "latency":
            fields.number("delay_ms", mean * share)
            facts.append("latency: " + ("one way, as you say" if share == 1 else "a round trip, halved"))
        else:
            fields.rate(field, mean * 1e6, field)
    fields.dropped.append(
        "how tests differ: the profile has their means, and is no trace, since tests are no timeline"
    )
    if skipped:
        fields.dropped.append(f"empty cells: {skipped:,}")
    if left := [each[:30] for n, each in enumerate(headings) if n not in columns.values()]:
        fields.dropped.append(f"columns {', '.join(left[:30])}")
    return fields.imported(name, source, facts)
