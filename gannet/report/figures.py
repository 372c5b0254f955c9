"""The parts that all plots share: a common layout, axes with units, and colours as tokens.

A plot is a plain dictionary in plotly's JSON schema. Colours in it are tokens such as "@arm0" or
"@arm0/0.2" (with opacity): the page replaces them with its CSS variables, so one plot serves light, dark
and print. Text that comes from files must pass through `label`, since plotly interprets some HTML tags in every
text it draws.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]

ARM_COLOURS = 7
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
UNTRUSTED = "⚠ untrusted"
PANELS_A_ROW = 3
_PANEL_HEIGHT = 190
_GAP = 0.5  # between rows of panels, as a share of a panel's height


def label(text: str, width: int = 0) -> str:
    """Text from a file, escaped for plotly, and wrapped to `width` characters if that is given."""
    lines = textwrap.wrap(text, width) if width else [text]
    return "<br>".join(html.escape(line) for line in lines)


def legend_name(arm_label: str, doubt: str = "") -> str:
    """A legend entry: a long name is shortened, `doubt` ("⚠ untrusted") never is."""
    return f"{label(textwrap.shorten(arm_label, 44, placeholder=' …') or arm_label[:44])}{doubt}"


def arm_colour(index: int) -> str:
    """The colour token of the arm at `index`. Colours repeat after ARM_COLOURS; symbols then tell arms apart."""
    return f"@arm{index % ARM_COLOURS}"


def arm_symbol(index: int) -> str:
    return SYMBOLS[(index + index // ARM_COLOURS) % len(SYMBOLS)]


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 13, "color": "@muted"}, "standoff": 8},
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zerolinecolor": "@line",
        "tickfont": {"size": 12, "color": "@muted"},
        "ticks": "",
        "automargin": True,
        "fixedrange": False,
        **settings,
    }


def layout(height: int, **settings: Any) -> dict[str, Any]:
    """The common layout; `settings` adds axes, shapes and annotations."""
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 12, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": "@ink"},
        "hoverlabel": {"bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink", "family": FONT}},
        "hovermode": "closest",
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
            "font": {"size": 13, "color": "@ink"}, "bgcolor": "rgba(0,0,0,0)", "traceorder": "normal",
        },
        **settings,
    }  # fmt: skip


def panel_title(text: str, x: float, y: float = 1.0) -> dict[str, Any]:
    """A title above one panel of a figure; x and y are in paper units."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": x,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 13, "color": "@muted"},
        "yshift": 6,
    }


def panels(
    named: Sequence[tuple[str, Sequence[dict[str, Any]]]],
    vertical: str = "",
    panel_height: int = _PANEL_HEIGHT,
    **vertical_settings: Any,
) -> Figure | None:
    """Small panels over training time under one legend, each with a heading and its traces; None if `named` is empty.

    `vertical` is the title of the vertical axes; `vertical_settings` apply to each of them.
    """
    if not named:
        return None
    across = min(PANELS_A_ROW, len(named))
    down = -(-len(named) // across)
    width, height = 1 / across, 1 / (down + _GAP * (down - 1))
    data: list[dict[str, Any]] = []
    settings: dict[str, Any] = {"annotations": [], "showlegend": True}
    in_legend: set[str] = set()
    for place, (heading, traces) in enumerate(named):
        left, top = place % across * width, 1 - place // across * height * (1 + _GAP)
        name = "" if place == 0 else str(place + 1)
        below = place + across >= len(named)  # only the lowest panel of each column has an axis title
        sides, clock = [left, left + width * 0.86], "training time (s)" if below else ""
        settings[f"xaxis{name}"] = axis(clock, domain=sides, anchor=f"y{name}", rangemode="tozero")
        settings[f"yaxis{name}"] = axis(
            vertical if place % across == 0 else "",
            domain=[max(0.0, top - height), top],
            anchor=f"x{name}",
            nticks=5,
            **vertical_settings,
        )
        settings["annotations"].append(panel_title(heading, left, top))
        for trace in traces:
            shown = "name" in trace and trace["name"] not in in_legend
            in_legend |= {trace["name"]} if shown else set()
            data.append(trace | {"xaxis": f"x{name}", "yaxis": f"y{name}", "showlegend": shown})
    figure: Figure = {"data": data, "layout": layout(90 + panel_height * down, **settings)}
    figure["layout"]["legend"]["y"] = 1 + 0.2 * height
    figure["layout"]["margin"]["t"] = 70
    return figure


def log_ticks(low: float, high: float) -> list[float]:
    """Round ticks that cover low to high (both positive), closer together where the range is short."""
    steps = (1, 2, 5) if high > 30 * low else (1, 2, 3, 4, 6, 8)
    ticks = [m * 10.0**e for e in range(-12, 13) for m in steps]
    return [tick for tick in ticks if low / 1.3 <= tick <= high * 1.3]


def byte_unit(largest: float) -> tuple[float, str]:
    """(divisor, unit) with which `largest` bytes has one to three digits before the decimal point."""
    for divisor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= divisor:
            return divisor, unit
    return 1.0, "B"
