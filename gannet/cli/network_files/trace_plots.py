"""Draws traces with plotly: rates over time, a panel a trace, outages shaded; delays below, where it has any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gannet.netem.links.trace import Trace, Track
from gannet.netem.traces.figures import steps_of
from gannet.report.figures import FONT, Figure, label

_PANEL_PX, _WIDTH_PX = 260, 1000
_COLOURS = {"down_bps": "#4477aa", "up_bps": "#cc6644", "delay_ms": "#555555", "loss_percent": "#aa3377"}
_PANELS = (
    ("Mbit/s", {"down_bps": ("down", 1e6), "up_bps": ("up", 1e6)}),
    ("one-way delay, ms", {"delay_ms": ("delay", 1.0)}),
    ("loss, %", {"loss_percent": ("loss", 1.0)}),
)


def drawing(traces: Sequence[Trace]) -> Figure:
    """A plotly figure as plain data: of each trace a panel for every kind of figure that it has."""
    panels = [
        (trace, title, fields)
        for trace in traces
        for title, fields in _PANELS
        if any(trace.touches(field) for field in fields)
    ]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "width": _WIDTH_PX,
        "height": 60 + _PANEL_PX * len(panels),
        "margin": {"l": 70, "r": 20, "t": 30, "b": 50},
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "font": {"family": FONT, "size": 12, "color": "#333333"},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        "annotations": [],
        "shapes": [],
    }
    named: set[str] = set()
    for row, (trace, title, fields) in enumerate(panels):
        number = "" if row == 0 else str(row + 1)
        bottom, top = 1 - (row + 0.86) / len(panels), 1 - (row + 0.08) / len(panels)
        lines = {"gridcolor": "#dddddd", "zerolinecolor": "#999999"}
        layout[f"xaxis{number}"] = {
            "title": {"text": "s"},
            "anchor": f"y{number}",
            "range": [0, trace.length_s],
            **lines,
        }
        layout[f"yaxis{number}"] = {
            "title": {"text": title}, "anchor": f"x{number}", "domain": [bottom, top], "rangemode": "tozero", **lines,
        }  # fmt: skip
        layout["annotations"].append(
            {"text": f"<b>{label(trace.name)}</b>", "xref": "paper", "yref": "paper", "x": 0, "y": top,
             "xanchor": "left", "yanchor": "bottom", "showarrow": False}
        )  # fmt: skip
        for field, (name, size) in fields.items():
            if trace.touches(field):
                drawn = _line(_track(trace, field), field, size)
                drawn |= {"name": name, "legendgroup": name, "showlegend": name not in named}
                data.append({**drawn, "xaxis": f"x{number}", "yaxis": f"y{number}"})
                named.add(name)
                layout["shapes"] += _outages(trace, field, number)
    return {"data": data, "layout": layout}


def _track(trace: Trace, field: str) -> Track:
    return trace.up if trace.up is not None and field == "up_bps" else trace.tracks[0]


def _line(track: Track, field: str, size: float) -> dict[str, Any]:
    steps = steps_of(track, field)
    return {
        "type": "scatter", "mode": "lines", "x": [*(at_s for at_s, _, _ in steps), steps[-1][1]],
        "y": [*(value / size for _, _, value in steps), steps[-1][2] / size],
        "line": {"color": _COLOURS[field], "width": 1.5, "shape": "hv"},
    }  # fmt: skip


def _outages(trace: Trace, field: str, number: str) -> list[dict[str, Any]]:
    if not field.endswith("_bps"):
        return []
    return [
        {"type": "rect", "xref": f"x{number}", "x0": at_s, "x1": end_s, "yref": f"y{number} domain", "y0": 0, "y1": 1,
         "fillcolor": _COLOURS[field], "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
        for at_s, end_s, value in steps_of(_track(trace, field), field)
        if value == 0
    ]  # fmt: skip
