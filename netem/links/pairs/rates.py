"""Rates of single links from matrices: by rank, or by the regions of sender and receiver."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gannet.netem.links.matrix_files import NO_UNIT, MatrixError, check_size, kind_of, read_csv
from gannet.netem.links.plan import Edge
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.regions import (
    RateTable,
    build,
    check_rate,
    check_square,
    limits,
    mapping_in,
    rate_cells,
    yaml_rows,
)


def rate_edges(rates: Sequence[Sequence[str | None]]) -> dict[Edge, LinkProfile]:
    """The rates of the links between nodes that this matrix (by rank: sender's row, receiver's column) specifies.

    Cells are rates with their unit, such as 10Mbit; an empty one, or "unlimited", leaves the link to its nodes.
    Raises MatrixError.
    """
    size = len(rates)
    check_size("rates", size)
    try:
        check_square("rates", rates, size)
    except ValueError as error:
        raise MatrixError(str(error).removeprefix("rates ")) from None
    edges: dict[Edge, LinkProfile] = {}
    shared: dict[str, LinkProfile] = {}
    for (a, b), cell in rate_cells(rates):
        if a == b and cell in ("", "0"):
            continue
        if a == b:
            raise MatrixError(f"row {a}, column {b}: the cell of node {a} with itself must be empty")
        try:
            check_rate((a, b), cell)
        except ValueError as error:
            raise MatrixError(str(error).removeprefix("rates, ")) from None
        if cell not in shared:
            shared[cell] = LinkProfile.model_validate({"name": cell, "rate": cell})
        edges[a, b] = shared[cell]
    return edges


def load_rates(path: str | Path) -> RateTable:
    """The rates in a matrix file, CSV or YAML, by rank and without names. Raises MatrixError."""
    path = Path(path)
    rows = yaml_rows(path, "rates") if path.suffix in (".yaml", ".yml") else _csv_rates(path)[1]
    return tuple(tuple(row) for row in rows)


def load_region_rates(path: str | Path) -> dict[tuple[str, str], str | None]:
    """The rates in a matrix file between regions, CSV or YAML, by the names of sender's and receiver's region.

    Raises MatrixError.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        data = mapping_in(path)
        if other := next((name for name in ("delays_ms", "round_trips_ms", "losses_percent") if name in data), ""):
            raise MatrixError(f"{path}: has {other} too, which nothing reads: name the file under matrix instead")
        matrix = build(path, data)
        names, rows = matrix.regions, matrix.rates or ()
    else:
        names, cells = _csv_rates(path)
        rows = tuple(tuple(row) for row in cells)
    if not names:
        raise MatrixError(f"{path}: names no regions: write their names in the first row and the first column")
    if any(len(row) != len(names) for row in rows):
        raise MatrixError(f"{path}: rates must be {len(names)} × {len(names)}, a cell for each pair of its regions")
    return {(names[a], names[b]): cell for a, row in enumerate(rows) for b, cell in enumerate(row) if limits(cell)}


def _csv_rates(path: Path) -> tuple[tuple[str, ...], list[list[str | None]]]:
    found = read_csv(path)
    kind_of(path, found.kind, "rates")
    if found.rates is None:
        cell = next((cell for row in found.rows for cell in row if cell), "")
        raise MatrixError(f"{path}: {cell} {NO_UNIT}" if cell else f"{path}: has no rates")
    return found.names, found.rates
