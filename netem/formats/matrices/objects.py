"""Latency tables as JSON: regions within regions, {"i-j": ms} of pairs, rows, and DT-FM's {"A-B": [ms, Gbit/s]}."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from gannet.netem.formats.base import FormatError, Imported, Options, Source
from gannet.netem.formats.graphs.network import counted, rate_in_plan, rate_text
from gannet.netem.formats.matrices.table import Table, cell, imported
from gannet.netem.links.yaml_files import short

name = "latencies as JSON"
reads = ("nodes",)
_MOST = 4096
_PAIR = re.compile(r"([0-9]{1,5})\s*[-,:>]\s*([0-9]{1,5})", re.ASCII)


def recognises(source: Source) -> bool:
    """Whether it is JSON with latencies of pairs, of regions or in rows."""
    return source.is_json and bool(kind_of(source.json))


def read(source: Source, options: Options) -> Imported:
    """The table of the chosen nodes. Raises FormatError."""
    return imported(name, read_json(source.json), options)


def kind_of(data: Any) -> str:
    """Which of the tables this is: "pairs", "regions", "rows", "dtfm", or "" for none."""
    if isinstance(data, list):
        rows = len(data) > 1 and all(isinstance(row, list) and len(row) == len(data) for row in data)
        return "rows" if rows and all(_is_cell(value) for row in data for value in row) else ""
    if not isinstance(data, dict) or not data:
        return ""
    if all(isinstance(key, str) and _PAIR.fullmatch(key) for key in data) and all(map(_is_cell, data.values())):
        return "pairs"
    if all("-" in key and isinstance(value, list) and len(value) == 2 for key, value in data.items()):
        return "dtfm"
    return "regions" if _regions(data) is not None else ""


def read_json(data: Any) -> Table:
    """The table. Raises FormatError."""
    kind = kind_of(data)
    if kind == "rows":
        return Table(
            [[_cell(value, f"row {a}, column {b}") for b, value in enumerate(row)] for a, row in enumerate(data)]
        )
    if kind == "pairs":
        return _pairs(data)
    if kind == "dtfm":
        return _dtfm(data)
    regions = _regions(data)
    if regions is None:
        raise FormatError("no table of latencies")
    names = list(dict.fromkeys([*regions, *(to for row in regions.values() for to in row)]))
    _check_size(len(names))
    rows = [[_cell(regions.get(a, {}).get(b), f"{a} to {b}") for b in names] for a in names]
    return Table(rows, names, said=_words(data))


def _pairs(data: dict[str, Any]) -> Table:
    cells: dict[tuple[int, int], float | None] = {}
    for key, value in data.items():
        match = _PAIR.fullmatch(key)
        assert match
        cells[int(match[1]), int(match[2])] = _cell(value, f'"{short(key)}"')
    numbers = {number for pair in cells for number in pair}
    least, size = min(numbers), max(numbers) + 1 - min(numbers)
    _check_size(size)
    if len(numbers) < size:
        raise FormatError(
            f"pairs of the nodes {least} to {max(numbers)}, but {size - len(numbers)} of these have none"
        )
    rows: list[list[float | None]] = [[0.0 if a == b else None for b in range(size)] for a in range(size)]
    for (a, b), value in cells.items():
        if a != b:
            rows[a - least][b - least] = value
    return Table(rows, unit="ms", facts=[f"{counted(len(data), 'pair')} of {counted(size, 'node')}, in ms"])


def _dtfm(data: dict[str, Any]) -> Table:
    """Delay in ms and bandwidth in Gbit/s of each pair of regions, as DT-FM's scheduler has them."""
    pairs: dict[tuple[str, str], tuple[float | None, float]] = {}
    for key, (delay, rate) in data.items():
        a, _, b = (part.strip() for part in key.partition("-"))
        if not (_is_cell(delay) and _is_cell(rate) and a and b and "-" not in b):
            raise FormatError(f'"{short(key)}": {short([delay, rate])} is not like "A-B": [ms, Gbit/s]')
        rate_gbps = _cell(rate, f'"{short(key)}"')
        if rate_gbps is None or not rate_gbps > 0:
            raise FormatError(f'"{short(key)}": a bandwidth of {short(rate)} Gbit/s: it must be more than 0')
        pairs[a, b] = _cell(delay, f'"{short(key)}"'), rate_gbps * 1e9
    names = list(dict.fromkeys(end for pair in pairs for end in pair))
    _check_size(len(names))
    rows: list[list[float | None]] = [[None] * len(names) for _ in names]
    rates: list[list[str | None]] = [[None] * len(names) for _ in names]
    for (a, b), (delay, rate) in pairs.items():
        for x, y in ((a, b), *([(b, a)] if (b, a) not in pairs else [])):
            rows[names.index(x)][names.index(y)] = delay
            if x != y:
                rates[names.index(x)][names.index(y)] = rate_text(rate_in_plan(rate))
    return Table(
        rows,
        names,
        unit="ms",
        rates=rates,
        facts=[f"{counted(len(pairs), 'pair')} of {counted(len(names), 'region')}, in ms and Gbit/s"],
    )


def _regions(data: Any) -> dict[str, dict[str, Any]] | None:
    """{"a": {"b": number}}, at the top or within one field."""
    if not isinstance(data, dict):
        return None
    for each in (data, *data.values()):
        if isinstance(each, dict) and len(each) > 1 and all(isinstance(row, dict) for row in each.values()):
            known = set(each)
            inner = [key for row in each.values() for key in row]
            cells = all(_is_cell(value) or isinstance(value, str) for row in each.values() for value in row.values())
            if inner and cells and known & set(inner):
                return each
    return None


def _words(data: Any, depth: int = 0) -> str:
    """What the file says in words, keys and texts alike, two levels deep."""
    if isinstance(data, str):
        return data[:1000]
    if isinstance(data, dict) and depth < 3:
        return "\n".join(f"{key} {_words(value, depth + 1)}" for key, value in list(data.items())[:200])
    return ""


def _is_cell(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any, where: str) -> float | None:
    if isinstance(value, str):
        return cell(value, where)
    try:
        found = None if value is None else float(value)
    except OverflowError:
        raise FormatError(f"{where}: {short(value)} is too large") from None
    return found if found is None or isfinite(found) else None


def _check_size(size: int) -> None:
    if size > _MOST:
        raise FormatError(f"{size:,} nodes, and {_MOST:,} at most in such a file")
