"""Cooked traces of Pensieve (Mao et al. 2017): seconds, and the rate of the interval that ends there."""

from __future__ import annotations

from itertools import pairwise

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.traces.intervals import OF_PAYLOAD, Intervals, head_lines, lines_of, number, rate_unit

name = "cooked trace (Pensieve)"
reads = ("bin_ms",)
_LEAST_ROWS = 3
_TOO_FAST_BPS = 10e9


def recognises(source: Source) -> bool:
    """Whether there are two columns of numbers, blanks between, the first of which grows."""
    rows = [line.split() for line in head_lines(source)]
    if len(rows) < _LEAST_ROWS or any(len(row) != 2 for row in rows):
        return False
    try:
        times = [number(row[0], "") for row in rows]
        rates = [number(row[1], "") for row in rows]
    except FormatError:
        return False
    return all(a < b for a, b in pairwise(times)) and min(rates) >= 0


def read(source: Source, options: Options) -> Imported:
    """The trace, downwards: Mbit/s, or `unit`."""
    if options.round_trip is not None:
        raise FormatError("it has no latencies: leave out --round-trip or --one-way")
    unit_bps = rate_unit(options.unit, "Mbit")
    found = Intervals(("down_bps",), options.bin_ms)
    before_s = first_s = None
    rows = 0
    for count, line in lines_of(source):
        here, cells = f"line {count}", line.split()
        if len(cells) != 2:
            raise FormatError(f"{here}: {len(cells)} columns: seconds and a rate were expected")
        at_s, rate_bps = number(cells[0], here), number(cells[1], here) * unit_bps
        rows += 1
        if options.unit is None and rate_bps > _TOO_FAST_BPS:
            raise FormatError(
                f"{here}: {rate_bps / 1e6:g} Mbit/s: say what its rates are: --unit bit, --unit kbit or --unit Mbit"
            )
        if before_s is None:
            first_s = at_s
        elif not at_s > before_s:
            raise FormatError(f"{here}: {at_s:g} s does not come after {before_s:g} s")
        else:
            found.add(at_s - before_s, here, down_bps=rate_bps)
        before_s = at_s
    facts = [
        f"{rows:,} lines: seconds, {options.unit or 'Mbit'}/s of the interval that ends there",
        "direction: down, as videos and downloads are measured",
    ]
    dropped = ["the rate in the first line, which no interval ends at", OF_PAYLOAD]
    if first_s:
        facts.append(f"begins at {first_s:g} s, which is 0 here")
    return found.imported(source, name, facts, dropped, loop=True)
