"""Delays, losses and rates for each pair: matrices between nodes, or between the regions of nodes.

A matrix gives directed edges (row: sender, column: receiver) as LinkProfiles: they replace delay, jitter and loss of
their link, and where it has rates, add one below those of both nodes. Delays are one way; a file may give round
trips, which are then halved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError, model_validator

from gannet.netem.links.matrix_files import MatrixError, check_size, kind_of, read_csv
from gannet.netem.links.plan import Edge
from gannet.netem.links.profile import UNLIMITED, LinkProfile, parse_rate_bps
from gannet.netem.links.yaml_files import DocumentError, printable, read_mapping, short

REGIONS_FOLDER = Path(__file__).parents[1] / "regions"
_LONGEST_MS = 60_000

_TABLES = ("delays_ms", "round_trips_ms", "losses_percent", "rates")

Cell = StrictFloat | StrictInt | None
Table = tuple[tuple[Cell, ...], ...]
RateTable = tuple[tuple[StrictStr | None, ...], ...]


class LinkMatrix(BaseModel):
    """One-way delays in ms, losses in per cent and rates such as 10Mbit, for each pair of nodes or, where `regions`
    names them, of regions. Without delays it says nothing but rates.

    Row: sender, column: receiver. An empty cell (null) is a link of which the matrix says nothing; without
    `losses_percent` nothing is lost. A rate is of each link between two nodes of these regions by itself. The
    diagonal of regions is the link between two nodes in one; that of nodes is 0 or empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[StrictStr, Field(min_length=1)] = "matrix"
    source: StrictStr = ""
    assumed: tuple[StrictStr, ...] = ()
    regions: tuple[Annotated[StrictStr, Field(min_length=1)], ...] = ()
    delays_ms: Table = ()
    losses_percent: Table | None = None
    rates: RateTable | None = None

    @model_validator(mode="before")
    @classmethod
    def _halve_round_trips(cls, data: object) -> object:
        if not isinstance(data, Mapping) or "round_trips_ms" not in data:
            return data
        if "delays_ms" in data:
            raise ValueError("delays_ms and round_trips_ms say the same thing twice: keep one")
        rest = {name: value for name, value in data.items() if name != "round_trips_ms"}
        return {**rest, "delays_ms": halved(data["round_trips_ms"])}

    @model_validator(mode="after")
    def _check(self) -> LinkMatrix:
        size = len(self.regions) or len(self.delays_ms) or len(self.rates or ())
        if not (self.delays_ms or self.rates):
            raise ValueError("delays_ms has no rows")
        if double := [region for region in self.regions if self.regions.count(region) > 1]:
            raise ValueError(f"regions names {short(double[0])} twice")
        if self.delays_ms:
            _check_table("delays_ms", self.delays_ms, size, _LONGEST_MS)
        if self.rates is not None:
            check_square("rates", self.rates, size)
            for edge, rate in rate_cells(self.rates):
                check_rate(edge, rate)
        if self.losses_percent is not None:
            if not self.delays_ms:
                raise ValueError("losses_percent belongs to delays_ms, which is missing")
            _check_table("losses_percent", self.losses_percent, size, 100)
            for r, row in enumerate(self.losses_percent):
                for c, cell in enumerate(row):
                    if cell and r != c and self.delays_ms[r][c] is None:
                        raise ValueError(
                            f"losses_percent, row {r}, column {c}: {short(cell)}, but delays_ms says nothing of this "
                            "link: give its delay too"
                        )
        if self.regions:
            return self
        for rank in range(size):
            delay_ms = self.delays_ms[rank][rank] if self.delays_ms else 0
            if delay_ms or self.loss_percent(rank, rank) or self.rate(rank, rank):
                raise ValueError(f"the cell of node {rank} with itself must be 0 or empty: there is no such link")
        return self

    def loss_percent(self, row: int, column: int) -> float:
        """Loss from the sender of this row to the receiver of this column."""
        return float((self.losses_percent[row][column] if self.losses_percent else 0.0) or 0.0)

    def rate(self, row: int, column: int) -> str | None:
        """The rate from the sender of this row to the receiver of this column; None: the matrix limits none."""
        cell = self.rates[row][column] if self.rates else None
        return cell if limits(cell) else None

    def link(self, row: int, column: int) -> LinkProfile | None:
        """The link from the sender of this row to the receiver of this column; None: not specified."""
        delay_ms = self.delays_ms[row][column] if self.delays_ms else None
        rate = self.rate(row, column)
        if delay_ms is None and (self.delays_ms or rate is None):
            return None
        figures: dict[str, Any] = {} if rate is None else {"rate": rate}
        if delay_ms is not None:
            figures |= {"delay_ms": delay_ms, "loss_percent": self.loss_percent(row, column)}
        name = f"{self.regions[row]}→{self.regions[column]}" if self.regions else self.name
        return LinkProfile.model_validate({"name": name, "source": self.source, **figures})

    def with_rates(self, rates: Mapping[tuple[str, str], str | None]) -> LinkMatrix:
        """The matrix between regions with these rates, by the names of sender's and receiver's region.

        Raises MatrixError: it has rates already, has no such region, or one is no rate.
        """
        if self.rates is not None:
            raise MatrixError(f"{self.name} has rates, and others are given: keep one")
        cells: list[list[str | None]] = [[None] * len(self.regions) for _ in self.regions]
        for pair, rate in rates.items():
            row, column = (_region(self, name) for name in pair)
            cells[row][column] = rate
        return build(None, {**dict(self), "rates": cells})


def list_matrices() -> list[str]:
    """Names of the shipped matrices between regions, sorted."""
    return sorted(path.stem for path in REGIONS_FOLDER.glob("*.yaml"))


def load_matrix(name_or_path: str | Path, kind: str = "") -> LinkMatrix:
    """Read a shipped matrix by name, or any by the path of its file: .yaml (fields of LinkMatrix) or .csv.

    A CSV has a row for each sender and a column for each receiver; names in its first row and first column are
    regions. Whether it has one-way delays (delays_ms) or round trips (round_trips_ms) it says itself, or `kind`.
    Raises MatrixError.
    """
    text = str(name_or_path)
    if text.endswith(".csv"):
        found = read_csv(Path(text))
        field = kind_of(Path(text), found.kind, kind)
        return build(Path(text), {"regions": found.names, field: found.rows if found.rates is None else found.rates})
    path = Path(text) if text.endswith((".yaml", ".yml")) else REGIONS_FOLDER / f"{text}.yaml"
    if path.parent == REGIONS_FOLDER and text not in list_matrices():
        close = get_close_matches(text, list_matrices(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise MatrixError(f"no matrix named {short(text)}: {hint}known: {', '.join(list_matrices())}, or a file")
    data = mapping_in(path)
    for field in ("delays_ms", "round_trips_ms"):
        if kind and field != kind and field in data:
            kind_of(path, field, kind)
    return build(path, data)


def load_table(path: str | Path, kind: str) -> Table:
    """The numbers of a matrix file, CSV or YAML, by rank and without names, as `kind` (a field: delays_ms,
    round_trips_ms or losses_percent). Raises MatrixError.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        found = read_csv(path)
        kind_of(path, found.kind, kind)
        return tuple(tuple(row) for row in found.rows)
    return tuple(tuple(row) for row in yaml_rows(path, kind))


def yaml_rows(path: Path, kind: str) -> list[list[Any]]:
    """The rows of this field of a YAML file. Raises MatrixError."""
    data = mapping_in(path)
    if kind not in data:
        others = [name for name in _TABLES if name in data]
        raise MatrixError(f"{path}: has no {kind}" + (f", but {' and '.join(others)}" if others else ""))
    if strange := [name for name in data if name not in (*LinkMatrix.model_fields, *_TABLES)]:
        raise MatrixError(f"{path}: {short(strange[0])} is no field; known: {', '.join(LinkMatrix.model_fields)}")
    rows = data[kind]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        example = "[[null, 10Mbit], [2Mbit, null]]" if kind == "rates" else "[[0, 25], [25, 0]]"
        raise MatrixError(f"{path}: {kind} is no list of rows: write {kind}: {example}")
    check_size(path, len(rows))
    return rows


def tables_in(path: str | Path) -> set[str]:
    """The matrices that a YAML file holds, by field; of a CSV none, since it holds one. Raises MatrixError."""
    path = Path(path)
    return {name for name in _TABLES if name in mapping_in(path)} if path.suffix in (".yaml", ".yml") else set()


def matrix_edges(
    delays_ms: Sequence[Sequence[float | None]], losses_percent: Sequence[Sequence[float | None]] | None = None
) -> dict[Edge, LinkProfile]:
    """The links between nodes that these matrices (by rank: sender's row, receiver's column) specify.

    Raises MatrixError where a matrix is not square, the two differ in size, or a cell is no delay or loss.
    """
    return node_edges(build(None, {"delays_ms": delays_ms, "losses_percent": losses_percent}))


def node_edges(matrix: LinkMatrix) -> dict[Edge, LinkProfile]:
    """The delays and losses of a matrix between nodes, by rank. Raises MatrixError for one between regions."""
    if matrix.regions:
        raise MatrixError(f"{matrix.name} is a matrix between regions: say which region each node is in")
    size = len(matrix.delays_ms)
    edges: dict[Edge, LinkProfile] = {}
    shared: dict[tuple[float, float], LinkProfile] = {}  # a thousand nodes have a million links, most of them alike
    for a in range(size):
        for b in range(size):
            delay_ms = matrix.delays_ms[a][b]
            if a == b or delay_ms is None:
                continue
            figures = delay_ms, matrix.loss_percent(a, b)
            if figures not in shared and (link := matrix.link(a, b)) is not None:
                shared[figures] = link
            edges[a, b] = shared[figures]
    return edges


def limits(cell: str | None) -> bool:
    """Whether a cell of rates is one, and not empty or "unlimited"."""
    return cell not in (None, *UNLIMITED)


def rate_cells(rates: Sequence[Sequence[str | None]]) -> Iterator[tuple[Edge, str]]:
    """The cells that limit a rate, by row and column."""
    for a, row in enumerate(rates):
        for b, cell in enumerate(row):
            if cell is not None and limits(cell):
                yield (a, b), cell


def check_rate(edge: Edge, cell: str) -> None:
    """Raise ValueError, with the place, for what is no rate."""
    try:
        parse_rate_bps(cell)
    except ValueError as error:
        raise ValueError(f"rates, row {edge[0]}, column {edge[1]}: {error}") from None


def region_edges(names: Sequence[str], matrix: str | Path | LinkMatrix = "aws") -> dict[Edge, LinkProfile]:
    """The links between nodes whose regions are `names[rank]`. Raises MatrixError for what the matrix lacks."""
    known = matrix if isinstance(matrix, LinkMatrix) else load_matrix(matrix)
    if not known.regions:
        raise MatrixError(f"{known.name} names no regions")
    at = [_region(known, name) for name in names]
    edges: dict[Edge, LinkProfile] = {}
    for a in range(len(names)):
        for b in range(len(names)):
            if a == b:
                continue
            link = known.link(at[a], at[b])
            if link is None and known.delays_ms:
                raise MatrixError(f"{known.name} does not say how far {names[a]} is from {names[b]}")
            if link is not None:
                edges[a, b] = link
    return edges


def _region(matrix: LinkMatrix, name: str) -> int:
    """The row of this region. Raises MatrixError."""
    if name not in matrix.regions:
        close = get_close_matches(str(name), matrix.regions, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise MatrixError(f"{matrix.name} has no region {short(name)}: {hint}known: {', '.join(matrix.regions)}")
    return matrix.regions.index(name)


def halved(table: Any) -> Any:
    """Half of every number that may be a round trip; other values stay as they are and fail validation later."""
    if isinstance(table, list | tuple):
        return [halved(item) for item in table]
    number = isinstance(table, int | float) and not isinstance(table, bool)
    return table / 2 if number and abs(table) <= 2 * _LONGEST_MS else table


def mapping_in(path: Path) -> dict[str, Any]:
    """The fields of a YAML file. Raises MatrixError."""
    try:
        return read_mapping(path, "delays_ms: [[0, 25], [25, 0]]", rows=True)
    except DocumentError as error:
        raise MatrixError(str(error)) from error


def check_square(field: str, table: Sequence[Sequence[object]], size: int) -> None:
    """Raise ValueError unless the table of this field has as many rows, and as many cells in each."""
    if len(table) != size or any(len(row) != size for row in table):
        widths = sorted({len(row) for row in table})
        raise ValueError(f"{field} must be {size} × {size}: it has {len(table)} rows of {widths} cells")


def _check_table(field: str, table: Table, size: int, most: float) -> None:
    check_square(field, table, size)
    for r, row in enumerate(table):
        for c, cell in enumerate(row):
            if cell is not None and not 0 <= cell <= most:
                raise ValueError(f"{field}, row {r}, column {c}: {short(cell)} is not between 0 and {most}")


def build(path: Path | None, data: Mapping[str, Any]) -> LinkMatrix:
    """The matrix of these fields, which is named after their file if there is one. Raises MatrixError."""
    try:
        return LinkMatrix.model_validate({"name": path.stem if path else "matrix", **data})
    except ValidationError as error:
        first = error.errors()[0]
        where = ", ".join(str(part) for part in first["loc"] if part not in ("float", "int"))
        message = first["msg"].removeprefix("Value error, ") + (f" (got {short(first['input'])})" if where else "")
        raise MatrixError(": ".join(filter(None, (str(path or ""), printable(where), message)))) from error
