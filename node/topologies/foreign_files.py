"""What a file is that is no edge list and no weight matrix, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from math import isfinite

Lines = Sequence[Sequence[str]]

_WHOLE = re.compile(r"[0-9]+", re.ASCII)
_JOINED = re.compile(r"([0-9]+)(\s*)(?:--|->|-|>|→)\2([0-9]+)", re.ASCII)
_WITH_UNIT = re.compile(r"[0-9.]+\s*(ms|us|µs|s|km|%|[kmg]?bit|[kmg]?bps)", re.ASCII | re.IGNORECASE)
_AS_EDGES = "write its edges as lines `i j`, nodes from 0"
_BY_NETWORKX = (
    ", as networkx does: nx.write_edgelist(nx.convert_node_labels_to_integers(nx.read_{}({!r})), "
    "'edges.txt', data=False)"
)
_READERS = {"GraphML": "graphml", "GML": "gml", "Pajek": "pajek"}


def what_it_is(lines: Lines, where: str) -> str:
    """Another kind of file that these lines, split into words, are, and what to do; empty: none is known."""
    if kind := _format(lines):
        how = _BY_NETWORKX.format(_READERS[kind], where) if kind in _READERS else ""
        return f"{kind}, which is not read here: {_AS_EDGES}{how}"
    return _square_of_numbers(lines) or _edges_in_other_words(lines)


def _format(lines: Lines) -> str:
    first = lines[0][0].lower()
    if first.startswith("<"):
        return "GraphML" if any(word.lower().startswith("<graphml") for line in lines for word in line) else "XML"
    if first in ("graph", "digraph", "strict") and any(re.search(r"--|->", word) for line in lines for word in line):
        return "DOT of Graphviz"
    if first in ("digraph", "strict"):
        return "DOT of Graphviz"
    if any(len(line) > 2 and line[2].startswith("{") for line in lines):
        return "an edge list of networkx with data"
    if first.startswith(("{", "[")):
        return "JSON"
    if first in ("graph", "creator", "version") or first.startswith("graph["):
        return "GML"
    if first.startswith("%%matrixmarket"):
        return "Matrix Market"
    return "Pajek" if first.startswith("*") else ""


def _edges_in_other_words(lines: Lines) -> str:
    if all(_JOINED.fullmatch(" ".join(line)) for line in lines):
        found = _JOINED.fullmatch(" ".join(lines[0]))
        assert found
        return f"edges are lines `i j`: write {' '.join(lines[0])} as {found[1]} {found[3]}"
    if not all(len(line) in (2, 3) for line in lines):
        return ""
    heading, rest = lines[0], lines[1:]
    if rest and not any(map(_numeric, heading)) and all(map(_numeric, chain.from_iterable(rest))):
        third = (
            f", and leave out its third column unless {heading[2]!r} are mixing weights" if len(heading) > 2 else ""
        )
        return f"its first line, {' '.join(heading)}, is a heading: put # in front of it{third}"
    ends = [word for line in lines for word in line[:2]]
    names = list(dict.fromkeys(word for word in ends if not _WHOLE.fullmatch(word)))
    if names and not any(map(_numeric, names)) and "nan" not in map(str.lower, names):
        shown = ", ".join(map(repr, names[:3])) + " …" * (len(names) > 3)
        return (
            f"{names[0]!r} is no node number: nodes ({shown}) are numbered from 0, in the order of the run's nodes, "
            "and edges are lines `i j`"
        )
    third_column = [line[2] for line in lines if len(line) > 2]
    if not third_column or names:
        return ""
    if united := [word for word in third_column if _WITH_UNIT.fullmatch(word)]:
        return f"its third column has units ({united[0]}), and is no weight: leave it out; {_TO_LINKS}"
    values = [float(word) for word in third_column if _numeric(word)]
    if len(values) == len(third_column) and (large := [v for v in values if v > 1]):
        return (
            f"its third column, {min(values):g} to {max(large):g}, is no mixing weight (0 to 1) but a latency, "
            f"length or rate: leave it out, and nodes get Metropolis-Hastings weights; {_TO_LINKS}"
        )
    return ""


_TO_LINKS = "latencies belong in the spec's links (delays_ms)"


def _square_of_numbers(lines: Lines) -> str:
    """Adjacency matrices and tables of latencies, which a file of three lines with three numbers may be too."""
    if not _is_square(lines) or not all(map(_numeric, chain.from_iterable(lines))):
        return ""
    cells = [[float(word) for word in line] for line in lines]
    flat = list(chain.from_iterable(cells))
    size = len(cells)
    if set(flat) <= {0.0, 1.0} and any(sum(row) > 1 for row in cells):
        if size == 2 and all(sum(row) == 1 for row in cells):
            return ""
        edges = [f"{i} {j}" for i in range(size) for j in range(i + 1, size) if cells[i][j] or cells[j][i]]
        listed = f" ({', '.join(edges[:4])}{' …' * (len(edges) > 4)})" if edges else ""
        return (
            f"zeros and ones, an adjacency matrix, which has no weights: write its edges as lines `i j`{listed}, "
            "which then get Metropolis-Hastings weights"
        )
    symmetric = all(cells[i][j] == cells[j][i] for i in range(size) for j in range(i))
    if size > 2 and symmetric and not any(cells[i][i] for i in range(size)) and max(flat) > 1:
        return (
            f"a matrix of distances or latencies, up to {max(flat):g}, with zeros on its diagonal, and not of mixing "
            f"weights, whose rows sum to 1: {_AS_EDGES}; {_TO_LINKS}"
        )
    return ""


def counts_from_one(ranks: set[int]) -> str:
    """Whether an edge list's nodes begin with 1, and what to do; empty: they begin with 0."""
    if 0 in ranks or 1 not in ranks:
        return ""
    last = max(ranks)
    gaps = [rank for rank in range(1, last) if rank not in ranks]
    also = f" (node{'s' * (len(gaps) > 1)} {', '.join(map(str, gaps[:4]))} of them without an edge)" if gaps else ""
    return f"counts nodes from 1 to {last}{also}: they are numbered from 0, so subtract 1"


def _is_square(lines: Lines) -> bool:
    return all(len(line) == len(lines) for line in lines)


def _numeric(word: str) -> bool:
    try:
        return isfinite(float(word))
    except ValueError:
        return False
