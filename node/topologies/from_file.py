"""A graph or a mixing matrix from a text file.

An edge list has a line `i j` for each undirected edge, and gets Metropolis-Hastings weights; or `i j w`
with weights, and what is left of 1 stays on the node itself. Anything else is W, a line a row: row i holds
the weights that node i gives to each node. Numbers are separated by blanks, commas or semicolons; # begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from gannet.node.regular import check_regular
from gannet.node.topologies.foreign_files import counts_from_one, what_it_is
from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.weights import Periodic, Row, Schedule, metropolis_hastings, reached, takes_turns

TOLERANCE = 1e-6  # of a sum that should be 1: six digits are often all that a file gives
_ROUNDING = 1e-5  # weight on oneself that rounding leaves where the others should sum to 1, as three times 0.333333
_POLISH = 50
_WHOLE = re.compile(r"\d+")


class FileTopology(TopologySetting):
    """An edge list or a weight matrix.

    `content` is the file's own text. It is read where the spec is, and travels with it: nodes on other
    machines do not have the file, and the ledger must hold all that a run depends on.
    """

    name: Literal["file"] = "file"
    path: str
    content: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "content" in values or not isinstance(values.get("path"), str):
            return values
        try:
            return {**values, "content": check_regular(Path(values["path"])).read_text(encoding="utf-8")}
        except OSError as error:
            raise ValueError(f"cannot read {values['path']}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"cannot read {values['path']}: it is no text") from None

    @model_validator(mode="after")
    def _sound(self) -> FileTopology:
        parse(self.content, self.path)
        return self

    def schedule(self, world: int) -> Schedule:
        rows = parse(self.content, self.path)
        check_size(rows, world, self.path)
        return Periodic([rows])

    @property
    def own_size(self) -> int:
        return len(parse(self.content, self.path))

    def __str__(self) -> str:
        return f"file ({Path(self.path).name})"


@lru_cache(maxsize=16)
def parse(text: str, where: str) -> tuple[Row, ...]:
    """The rows of W. Raises ValueError, which names `where`, for what is not a matrix that averages."""
    stripped = [line.partition("#")[0].strip(" \t,;") for line in text.splitlines()]
    lines = [re.split(r"[\s,;]+", line) for line in stripped if line]
    if not lines:
        raise ValueError(f"{where}: no edges and no weights in it")
    if found := what_it_is(lines, where):
        raise ValueError(f"{where}: {found}")
    listed = all(len(line) in (2, 3) and all(map(_WHOLE.fullmatch, line[:2])) for line in lines)
    listed &= not (len(lines) == 3 and all(len(line) == 3 and {*line} <= {"0", "1"} for line in lines))
    rows = _edge_list(lines, where) if listed else _matrix(lines, where)
    _check_connected(rows, where)
    return tuple(rows)


def check_size(rows: Sequence[Row], world: int, where: str) -> None:
    """Raise ValueError when the file is for another number of nodes."""
    if len(rows) != world:
        raise ValueError(f"{where}: describes {len(rows)} nodes (0 to {len(rows) - 1}), but the run has {world}")


def _edge_list(lines: Sequence[Sequence[str]], where: str) -> list[Row]:
    if len({len(line) for line in lines}) > 1:
        raise ValueError(f"{where}: some edges have a weight and some have none")
    edges = [(int(line[0]), int(line[1])) for line in lines]
    world = 1 + max(max(edge) for edge in edges)
    if world > 4096:
        raise ValueError(f"{where}: a node number of {world - 1} is too large; nodes are numbered from 0")
    if counted := counts_from_one({rank for edge in edges for rank in edge}):
        raise ValueError(f"{where}: {counted}")
    if looped := [i for i, j in edges if i == j]:
        raise ValueError(f"{where}: the edge {looped[0]} {looped[0]} goes from a node to itself")
    if len(lines[0]) == 2:
        graph: list[set[int]] = [set() for _ in range(world)]
        for i, j in edges:
            graph[i].add(j)
            graph[j].add(i)
        return metropolis_hastings(graph)
    weights: list[dict[int, float]] = [{} for _ in range(world)]
    for (i, j), line in zip(edges, lines, strict=True):
        weight = _number(line[2], where)
        if weights[i].get(j, weight) != weight:
            raise ValueError(f"{where}: the edge {i} {j} has two weights; edges are undirected")
        if weight:
            weights[i][j] = weights[j][i] = weight
    for i, row in enumerate(weights):
        if (rest := 1.0 - sum(row.values())) < -TOLERANCE:
            raise ValueError(
                f"{where}: the weights of node {i} sum to {1 - rest:.6g}, which is more than 1; if the third column "
                "is no weight (a latency, say), leave it out"
            )
        if rest > 0:
            row[i] = rest
    return list(weights)


def _matrix(lines: Sequence[Sequence[str]], where: str) -> list[Row]:
    world = len(lines)
    for i, line in enumerate(lines):
        if len(line) != world:
            raise ValueError(
                f"{where}: row {i} has {len(line)} numbers, and there are {world} rows: neither a square matrix "
                "nor an edge list (lines of two node numbers, or of two and a weight)"
            )
    full = [[_number(text, where) for text in line] for line in lines]
    for what, sums in (("row", map(sum, full)), ("column", map(sum, zip(*full, strict=True)))):
        for i, total in enumerate(sums):
            if abs(total - 1) > TOLERANCE:
                raise ValueError(f"{where}: not doubly stochastic: {what} {i} sums to {total:.6g} instead of 1")
    for _ in range(_POLISH):  # Sinkhorn: what is off by rounding in the file must not add up over the rounds
        if max(abs(sum(row) - 1) for row in (*full, *zip(*full, strict=True))) < 1e-14:
            break
        columns = _of_sum_one(zip(*full, strict=True))
        full = _of_sum_one(zip(*columns, strict=True))
    return [{j: value for j, value in enumerate(row) if value} for row in full]


def _of_sum_one(rows: Iterable[Sequence[float]]) -> list[list[float]]:
    return [[value / total for value in row] for row in rows if (total := sum(row))]


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no number") from None
    if not isfinite(value) or value < 0:
        raise ValueError(f"{where}: {text} is no weight: weights lie between 0 and 1")
    return value


def _check_connected(rows: Sequence[Row], where: str) -> None:
    if len(found := reached(rows)) < len(rows):  # doubly stochastic: connected one way is connected both ways
        missing = sorted(set(range(len(rows))) - found)
        raise ValueError(
            f"{where}: not connected: node{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:8]))}"
            f"{' …' * (len(missing) > 8)} and node 0 never hear of each other"
        )
    # Connected, it averages unless the nodes only take turns; weight on oneself anywhere rules that out.
    if takes_turns([[j for j, weight in row.items() if j != i or weight > _ROUNDING] for i, row in enumerate(rows)]):
        raise ValueError(
            f"{where}: never averages, the nodes only trade places: give some node weight on itself (in an edge "
            "list by weights that sum to less than 1: the rest stays on the node)"
        )
