"""A table of latencies between nodes or regions: what it says itself, what it does not, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Nodes, Options
from gannet.netem.formats.graphs.network import counted
from gannet.netem.formats.graphs.routing import check_count, index_of
from gannet.netem.links.yaml_files import short

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
COMPLETE = "complete"
_LONGEST_MS = 60_000.0
_ROUND_TRIP = re.compile(r"round[\s_-]*trips?|\brtts?(?![a-z])", re.IGNORECASE)
_ONE_WAY = re.compile(r"one[\s_-]*way|\bdelays?_ms\b", re.IGNORECASE)
_MS = re.compile(r"milli-?seconds?|(?<![a-z])msecs?\b|(?<![a-z])ms(?![a-z])", re.IGNORECASE)
_MISSING = frozenset(("", "-", "--", "n/a", "na", "nan", "null", "none", "?", "x", "*", "—", "–"))
_DIGITS = 6


@dataclass
class Table:
    """`rows` of cells in the file's unit (None: missing); `names`: none where the file has none.

    `said`: what the file says besides numbers, in which its unit and direction are looked for. `unit`: that of the
    format, where it has one.
    """

    rows: list[list[float | None]]
    names: list[str] = field(default_factory=list)
    said: str = ""
    unit: str = ""
    rates: list[list[str | None]] | None = None
    facts: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def cell(text: str, where: str) -> float | None:
    """A number, None for what stands for a missing one. Raises FormatError."""
    plain = text.strip().strip("*_` ").lower()
    if plain in _MISSING:
        return None
    bare = re.sub(r"\s*m?s$", "", plain)
    try:
        value = float(bare)
    except ValueError:
        raise FormatError(f"{where}: {short(text)} is no number") from None
    if not isfinite(value):
        return None
    return value


def matrix_of(
    table: Table, nodes: Nodes = None, round_trip: bool | None = None, unit: str | None = None
) -> dict[str, Any]:
    """The fields of a matrix file (regions, delays_ms or round_trips_ms). Raises FormatError.

    `round_trip` and `unit` ("us", "ms", "s") are what the caller says; what the file does not say is asked for. Zeros
    off the diagonal, and numbers below, are missing. What is found and left out is added to the table.
    """
    size = len(table.rows)
    if wrong := [row for row in table.rows if len(row) != size]:
        raise FormatError(f"not square: {size} rows, and one of {len(wrong[0])} cells")
    trips, scale = _direction(table, round_trip), UNITS_MS[_unit(table, unit)]
    names = table.names or [str(number) for number in range(size)]
    rows = [
        [
            None if value is None or value < 0 or (a != b and value == 0) else value * scale
            for b, value in enumerate(row)
        ]
        for a, row in enumerate(table.rows)
    ]
    zeros = sum(
        a != b and value is not None and value <= 0 for a, row in enumerate(table.rows) for b, value in enumerate(row)
    )
    _mirror(table, rows)
    taken = _choose(names, rows, nodes, bool(table.names))
    check_count(len(taken))
    rows = [[rows[a][b] for b in taken] for a in taken]
    if not table.names:
        for a, row in enumerate(rows):
            row[a] = 0.0
    found = [value for a, row in enumerate(rows) for b, value in enumerate(row) if a != b and value is not None]
    if not found:
        raise FormatError("no latency at all off the diagonal")
    most = _LONGEST_MS * (2 if trips else 1)
    largest = max(value for row in rows for value in row if value is not None)
    if largest > most:
        raise FormatError(
            f"a latency of {largest:g} ms: {most:g} ms at most; is the unit right? (--unit us, ms or s)"
        )
    _describe(table, rows, found, trips, len(names), zeros)
    fields: dict[str, Any] = {"regions": [names[node] for node in taken]} if table.names else {}
    fields["round_trips_ms" if trips else "delays_ms"] = [
        [None if value is None else round(value, _DIGITS) for value in row] for row in rows
    ]
    if table.rates is not None:
        fields["rates"] = [[table.rates[a][b] for b in taken] for a in taken]
    return fields


def imported(name: str, table: Table, options: Options) -> Imported:
    """What a format's `read` returns. Raises FormatError."""
    fields = matrix_of(table, options.nodes, options.round_trip, options.unit)
    return Imported(name, "matrix", fields, fields.get("regions", ()), table.facts, table.dropped)


def _direction(table: Table, round_trip: bool | None) -> bool:
    trips, one_way = (pattern.search(table.said) is not None for pattern in (_ROUND_TRIP, _ONE_WAY))
    if trips != one_way:
        if round_trip is not None and round_trip != trips:
            raise FormatError(
                f"the file says that its latencies are {'round trips' if trips else 'one way'}: leave out "
                f"--{'round-trip' if round_trip else 'one-way'}"
            )
        return trips
    if round_trip is None:
        raise FormatError(
            "are these one-way delays, or round trips as pings and most tables have them? The file does not say: add "
            "--round-trip or --one-way"
        )
    return round_trip


def _unit(table: Table, unit: str | None) -> str:
    if unit is not None and unit not in UNITS_MS:
        raise FormatError(f"--unit {unit} is no unit of latencies: {', '.join(UNITS_MS)}")
    own = table.unit or ("ms" if _MS.search(table.said) else "")
    if own and unit not in (None, own):
        raise FormatError(f"the file says that its latencies are in {own}: leave out --unit {unit}")
    if not (own or unit):
        values = sorted(value for row in table.rows for value in row if value is not None and value > 0)
        seen = (
            f" ({values[0]:g} to {values[-1]:g}, half of them below {values[len(values) // 2]:g})" if values else ""
        )
        raise FormatError(
            f"in which unit are these latencies{seen}? The file does not say: add --unit ms or --unit s"
        )
    return str(own or unit)


def _mirror(table: Table, rows: list[list[float | None]]) -> None:
    """Of a table with one triangle the other half too."""
    size = len(rows)
    upper = [(a, b) for a in range(size) for b in range(a + 1, size)]
    if all(rows[b][a] is None for a, b in upper) or all(rows[a][b] is None for a, b in upper):
        for a, b in upper:
            value = rows[a][b] if rows[a][b] is not None else rows[b][a]
            rows[a][b] = rows[b][a] = value
        table.facts.append("one cell for each pair: both directions get it")


def _choose(names: Sequence[str], rows: Sequence[Sequence[float | None]], nodes: Nodes, named: bool) -> list[int]:
    everything = list(range(len(names)))
    if nodes is None:
        return everything
    if isinstance(nodes, int):
        if not 2 <= nodes <= len(names):
            raise FormatError(f"--nodes {nodes}: the file has {len(names):,} nodes, so take 2 to {len(names):,}")
        return everything[:nodes]
    if nodes == COMPLETE:
        return _complete(rows)
    wanted = [nodes] if isinstance(nodes, str) else list(nodes)
    taken = [index_of(names, name) for name in wanted]
    if len(set(taken)) < len(taken):
        advice = ": name it once, and repeat it in `regions.nodes` of a spec" if named else ""
        raise FormatError(f"--nodes names one node twice{advice}")
    return taken


def _complete(rows: Sequence[Sequence[float | None]]) -> list[int]:
    """Nodes between which nothing is missing: the one that lacks most is left out, again and again."""
    left = set(range(len(rows)))
    lacks = {a: {b for b in left if a != b and (rows[a][b] is None or rows[b][a] is None)} for a in left}
    while any(lacks[a] for a in left):
        worst = max(left, key=lambda a: (len(lacks[a]), a))
        left.remove(worst)
        for other in lacks.pop(worst):
            if other in lacks:
                lacks[other].discard(worst)
    return sorted(left)


def _describe(
    table: Table, rows: list[list[float | None]], found: list[float], trips: bool, there: int, zeros: int
) -> None:
    size = len(rows)
    pairs = [(rows[a][b], rows[b][a]) for a in range(size) for b in range(a)]
    uneven = sum(a is not None and b is not None and abs(a - b) > 1e-9 for a, b in pairs)
    table.facts += [
        f"{there} × {there} cells" + (f", {size} of the nodes taken" if size < there else ""),
        f"{'round trips, which are halved' if trips else 'one-way delays'}: {min(found):g} to {max(found):g} ms, "
        f"{sum(found) / len(found):.6g} ms on average; {counted(uneven, 'pair')} differ by direction",
    ]
    if missing := size * (size - 1) - len(found):
        as_zeros = f" ({zeros} cells of the file are 0 or below)" if zeros else ""
        table.dropped.append(
            f"{missing} of {size * (size - 1)} cells off the diagonal are missing{as_zeros}: they stay empty, so "
            f"that the nodes' profiles decide these links; --nodes {COMPLETE} takes nodes between which nothing is "
            "missing"
        )
