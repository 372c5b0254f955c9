"""The plots of training: quality against seconds and bytes, and how a step's time is spent.

Each function turns results into one plotly figure (see gannet.report.figures), or None when there is nothing to draw.
Untrusted runs are dashed and marked in the legend; failed runs are dotted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from gannet.ledger.reader import Run
from gannet.report import formatting as words
from gannet.report.figures import (
    UNTRUSTED,
    Figure,
    arm_colour,
    arm_symbol,
    axis,
    byte_unit,
    label,
    layout,
    legend_name,
    log_ticks,
)
from gannet.report.results import ArmResult, Results, StepCost, node_costs, score_curve
from gannet.report.sentences import short_score_name
from gannet.report.yardstick import yardstick

Curve = list[tuple[float, float]]
LOG_FROM = 8.0


def quality(results: Results, against: str) -> Figure | None:
    """Score against "seconds" or "bytes": a line per arm, a band over its seeds, and the target."""

    def curve(run: Run) -> Curve:
        found = yardstick(run)
        return score_curve(run, against) if found is not None and found.score_name == results.score_name else []

    divisor, unit = 1.0, "s"
    if against == "bytes":
        divisor, unit = byte_unit(max((x for run in results.comparison.runs for x, _ in curve(run)), default=0.0))
    traces = arm_traces(results, lambda run: [(x / divisor, y) for x, y in curve(run)], unit, scores=True)
    if not traces:
        return None
    scores = [y for run in results.comparison.runs for _, y in curve(run)]
    title = "training time (s)" if against == "seconds" else f"payload sent by all nodes ({unit})"
    better = "lower is better" if results.better == "lower" else "higher is better"
    vertical = axis(f"{label(short_score_name(results.score_name))} ({better})")
    if min(scores) > 0 and max(scores) / min(scores) > LOG_FROM:
        ticks = log_ticks(min(scores), max(scores))
        vertical |= {"type": "log", "tickvals": ticks, "ticktext": [words.number(tick) for tick in ticks]}
    settings: dict[str, Any] = {"xaxis": axis(title, rangemode="tozero"), "yaxis": vertical}
    if results.target is not None:
        level = results.target.level
        settings["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
             "line": {"color": "@muted", "width": 1, "dash": "dot"}}
        ]  # fmt: skip
        settings["annotations"] = [
            {"text": f"target {words.number(level, 4)}", "xref": "paper", "x": 1, "xanchor": "right",
             "y": _axis_value(level, vertical), "yanchor": "bottom", "showarrow": False,
             "font": {"size": 12, "color": "@muted"}}
        ]  # fmt: skip
    return {"data": traces, "layout": layout(400, **settings)}


def step_time(results: Results) -> Figure | None:
    """Mean seconds per step of each arm (compute, waiting, other) with the lower bound."""
    rows = [(arm.label, arm.trusted, cost, cost.bound_s) for arm in results.arms if (cost := arm.cost) is not None]
    return _cost_bars(rows)


def step_time_by_node(run: Run) -> Figure | None:
    """As step_time, for each node of one run."""
    bound = run.summary.lower_bound_s.total_s if run.summary.lower_bound_s else None
    return _cost_bars([(f"node {node}", run.trusted, cost, bound) for node, cost in node_costs(run).items()])


def band(curves: Sequence[Curve]) -> tuple[Curve, Curve, Curve]:
    """(mean, lowest, highest) of the curves at every x that all of them cover, linear between points."""
    start, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    grid = sorted({x for curve in curves for x, _ in curve if start <= x <= end})
    columns = [[_at(curve, x) for curve in curves] for x in grid]
    return (
        [(x, fmean(column)) for x, column in zip(grid, columns, strict=True)],
        [(x, min(column)) for x, column in zip(grid, columns, strict=True)],
        [(x, max(column)) for x, column in zip(grid, columns, strict=True)],
    )


def _at(curve: Curve, x: float) -> float:
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 <= x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return curve[0][1] if x <= curve[0][0] else curve[-1][1]


def _axis_value(value: float, vertical: dict[str, Any]) -> float:
    """In plotly, annotations on a logarithmic axis are placed by the logarithm; shapes are not."""
    return math.log10(value) if vertical.get("type") == "log" else value


def arm_traces(
    results: Results, curve: Callable[[Run], Curve], unit: str, markers: bool = True, scores: bool = False
) -> list[dict[str, Any]]:
    """A line for each arm (the mean of its counted seeds, with their range as a band) and for each other run.

    `scores`: the curve is one of scores, so that an arm's line is of its seeds that are scored alike.
    """
    traces: list[dict[str, Any]] = []
    for arm in results.arms:
        traces += _counted_traces(arm, curve, unit, markers, scores)
        for run in (*arm.set_aside, *arm.unfinished):
            points = curve(run)
            if points:
                fate = UNTRUSTED if run in arm.set_aside else run.summary.status
                name = legend_name(arm.label, f", seed {run.seed} ({fate})")
                dash = "dash" if run in arm.set_aside else "dot"
                traces.append(_line(points, name, arm.index, dash=dash, width=1.2, unit=unit, markers=markers))
    return traces


def _counted_traces(
    arm: ArmResult, curve: Callable[[Run], Curve], unit: str, markers: bool, scores: bool
) -> list[dict[str, Any]]:
    apart = bool(arm.apart) and scores
    curves = [points for run in ((arm.scored or arm.counted) if scores else arm.counted) if (points := curve(run))]
    if not curves:
        return []
    mean, low, high = band(curves) if len(curves) > 1 else (curves[0], [], [])
    name = legend_name(arm.label, " (scored otherwise)" * apart + ("" if arm.trusted else f" {UNTRUSTED}"))
    line = _line(mean, name, arm.index, dash="solid" if arm.trusted else "dash", unit=unit, markers=markers)
    if not low:
        return [line]
    shade = {
        "mode": "lines",
        "type": "scatter",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": name,
        "line": {"width": 0, "color": f"{arm_colour(arm.index)}/0"},
    }
    bottom = {**shade, "x": [x for x, _ in low], "y": [y for _, y in low]}
    top = {**shade, "x": [x for x, _ in high], "y": [y for _, y in high],
           "fill": "tonexty", "fillcolor": f"{arm_colour(arm.index)}/0.18"}  # fmt: skip
    return [bottom, top, line]


def _line(
    points: Curve,
    name: str,
    index: int,
    dash: str = "solid",
    width: float = 2.4,
    unit: str = "s",
    markers: bool = True,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "x": [round(x, 4) for x, _ in points],
        "y": [float(f"{y:.6g}") for _, y in points],
        "name": name,
        "legendgroup": name,
        "line": {"color": arm_colour(index), "dash": dash, "width": width},
        "marker": {"symbol": arm_symbol(index), "size": 6 if width > 2 else 4, "color": arm_colour(index)},
        "hovertemplate": f"%{{fullData.name}}<br>%{{x:.4~g}} {unit}: %{{y:.4~g}}<extra></extra>",
    }


def _cost_bars(rows: Sequence[tuple[str, bool, StepCost, float | None]]) -> Figure | None:
    if not rows:
        return None
    places = list(range(len(rows)))
    names = [label(name, 26) + ("" if trusted else f"<br>{UNTRUSTED}") for name, trusted, _, _ in rows]
    hatch = ["" if trusted else "/" for _, trusted, _, _ in rows]
    traces: list[dict[str, Any]] = []
    for part, colour, spent in (
        ("computing gradients", "@compute", [cost.compute_s for _, _, cost, _ in rows]),
        ("waiting for peers and transfer", "@wait", [cost.wait_s for _, _, cost, _ in rows]),
        ("other (mixing, packing, optimizer)", "@other", [cost.other_s for _, _, cost, _ in rows]),
    ):
        traces.append(
            {"type": "bar", "orientation": "h", "name": part, "y": places, "width": 0.52,
             "x": [float(f"{value:.6g}") for value in spent],
             "customdata": [words.seconds(value) for value in spent],
             "marker": {"color": colour, "line": {"width": 0}, "pattern": {"shape": hatch, "fgopacity": 0.5}},
             "hovertemplate": "%{fullData.name}: %{customdata}<extra></extra>"}
        )  # fmt: skip
    bounds = [(place, row[3]) for place, row in zip(places, rows, strict=True) if row[3] is not None]
    if bounds:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "lower bound for these links",
                "x": [bound for _, bound in bounds],
                "y": [place for place, _ in bounds],
                "customdata": [words.seconds(bound) for _, bound in bounds],
                "marker": {
                    "symbol": "line-ns-open",
                    "size": 34,
                    "color": "@ink",
                    "line": {"width": 3, "color": "@ink"},
                },
                "hovertemplate": "lower bound: %{customdata}<extra></extra>",
            }
        )
    totals = [
        {"text": words.seconds(cost.total_s), "x": max(cost.total_s, bound or 0.0), "y": place,
         "xanchor": "left", "xshift": 8,
         "showarrow": False, "font": {"size": 13, "color": "@ink"}}
        for place, (_, _, cost, bound) in zip(places, rows, strict=True)
    ]  # fmt: skip
    longest = max(max(cost.total_s, bound or 0.0) for _, _, cost, bound in rows)
    settings = {
        "barmode": "stack",
        "xaxis": axis("mean time per step (s)", range=[0, longest * 1.12 or 1]),
        "yaxis": axis("", tickvals=places, ticktext=names, autorange="reversed", showgrid=False,
                      zeroline=False, tickfont={"size": 13, "color": "@ink"}),
        "annotations": totals,
    }  # fmt: skip
    return {"data": traces, "layout": layout(120 + 62 * len(rows), **settings)}
