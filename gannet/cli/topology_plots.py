"""Draws topologies with plotly: nodes on a circle with the round's edges, and the mixing matrix next to them.

A row a topology, a column a round for those that change, up to six; behind them the matrices of the rounds
drawn, multiplied: how much of each node is in each node after them.
"""

from __future__ import annotations

from functools import reduce
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np

from gannet.node.topologies.rates import figures
from gannet.node.topologies.topology import Matrix, Topology
from gannet.report import formatting as words
from gannet.report.figure_files import write_figure
from gannet.report.figures import FONT, label

MOST_ROUNDS = 6
_CELL_PX = 280
_LINE, _NODE, _INK = "#4477aa", "#222222", "#333333"
_SCALE = [[0.0, "#ffffff"], [0.01, "#dbe7f3"], [1.0, "#1b3f66"]]


def write(graphs: list[Topology], out: Path) -> None:
    """Write the drawing as a self-contained .html page, or as .svg or .png.

    Raises RuntimeError where images cannot be made on this machine.
    """
    write_figure(drawing(graphs), out)


def drawing(graphs: list[Topology]) -> dict[str, Any]:
    """A plotly figure as plain data."""
    counts = [min(MOST_ROUNDS, graph.period or MOST_ROUNDS) for graph in graphs]
    columns = 1 + max(counts)
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "width": 60 + _CELL_PX * columns,
        "height": 60 + _CELL_PX * len(graphs),
        "margin": {"l": 20, "r": 20, "t": 20, "b": 20},
        "showlegend": False,
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "font": {"family": FONT, "size": 12, "color": _INK},
        "annotations": [],
    }
    for row, (graph, count) in enumerate(zip(graphs, counts, strict=True)):
        rounds = [graph.mixing_matrix(number) for number in range(1, count + 1)]
        _say(layout, _title(graph), 0.03 / columns, 1 - (row + 0.05) / len(graphs))
        for column, weights in enumerate(rounds):
            axes = _panel(layout, row, column, len(graphs), columns, f"round {column + 1}" if count > 1 else "")
            traces += [trace | axes for trace in graph_traces(weights, graph.symmetric)]
        axes = _panel(layout, row, count, len(graphs), columns, "W" if count == 1 else f"W{count} ⋯ W1")
        layout["yaxis" + axes["yaxis"][1:]]["autorange"] = "reversed"
        traces.append(matrix_trace(reduce(lambda product, w: w @ product, rounds)) | axes)
    return {"data": traces, "layout": layout}


def graph_traces(weights: Matrix, symmetric: bool) -> list[dict[str, Any]]:
    """One round: an edge a line, the heavier the wider; with an arrow to the receiver unless all go both ways."""
    world = len(weights)
    places = [(sin(2 * pi * i / world), cos(2 * pi * i / world)) for i in range(world)]
    pairs = [(j, i) for i, j in zip(*np.nonzero(weights), strict=True) if i != j and not (symmetric and i < j)]
    traces: list[dict[str, Any]] = []
    for weight in sorted({round(float(weights[i, j]), 9) for j, i in pairs}):
        x: list[float | None] = []
        y: list[float | None] = []
        for j, i in pairs:
            if round(float(weights[i, j]), 9) == weight:
                x += [places[j][0], places[i][0], None]
                y += [places[j][1], places[i][1], None]
        trace: dict[str, Any] = {
            "type": "scatter", "x": x, "y": y, "mode": "lines", "hoverinfo": "skip",
            "line": {"color": _LINE, "width": 0.6 + 4 * weight}, "opacity": 0.7,
        }  # fmt: skip
        if not symmetric:
            ends = [size for _ in range(len(x) // 3) for size in (0, 9, 0)]
            trace |= {
                "mode": "lines+markers",
                "marker": {"symbol": "arrow", "angleref": "previous", "size": ends, "standoff": 7, "color": _LINE},
            }
        traces.append(trace)
    names = world <= 64
    traces.append(
        {
            "type": "scatter", "x": [p[0] for p in places], "y": [p[1] for p in places],
            "mode": "markers+text" if names else "markers", "text": [str(i) for i in range(world)],
            "marker": {"size": 17 if names else 4, "color": _NODE}, "textfont": {"color": "white", "size": 10},
            "hovertext": [f"node {i}, own weight {words.number(float(weights[i, i]))}" for i in range(world)],
            "hoverinfo": "text",
        }
    )  # fmt: skip
    return traces


def matrix_trace(weights: Matrix) -> dict[str, Any]:
    """W as a heat map: row i, the weights that node i gives to each node."""
    return {
        "type": "heatmap", "z": weights.tolist(), "colorscale": _SCALE, "zmin": 0, "zmax": float(weights.max()),
        "showscale": False, "hovertemplate": "node %{y} of node %{x}: %{z:.4f}<extra></extra>",
        "xgap": 0.5, "ygap": 0.5,
    }  # fmt: skip


def _title(graph: Topology) -> str:
    known = figures(graph)
    exact = "" if known.exact_after is None else f", exact after {known.exact_after}"
    return f"<b>{label(known.name)}</b>, {graph.world} nodes, rate {known.consensus_rate:.4f}{exact}"


def _panel(layout: dict[str, Any], row: int, column: int, rows: int, columns: int, title: str) -> dict[str, str]:
    """Add axes in the cell of that row and column, and a title above; returns what a trace needs to lie on them."""
    number = 1 + sum(key.startswith("xaxis") for key in layout)
    left, right = ((column + at) / columns for at in (0.03, 0.97))
    bottom, top = (1 - (row + at) / rows for at in (0.97, 0.17))
    axis = {"visible": False, "zeroline": False, "showgrid": False}
    layout[f"xaxis{number}"] = {**axis, "domain": [left, right], "anchor": f"y{number}"}
    layout[f"yaxis{number}"] = {
        **axis, "domain": [bottom, top], "anchor": f"x{number}", "scaleanchor": f"x{number}",
    }  # fmt: skip
    _say(layout, title, left, top)
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def _say(layout: dict[str, Any], text: str, x: float, y: float) -> None:
    layout["annotations"].append(
        {
            "text": text, "xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left",
            "yanchor": "bottom", "showarrow": False, "font": {"size": 12},
        }
    )  # fmt: skip
