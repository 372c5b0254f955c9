"""The parts all plots share: a calm common layout, axes with units, and the colours as tokens.

A plot is a plain dictionary in plotly's JSON schema. Colours in it are tokens such as "@arm0" or
"@arm0/0.2" (with opacity): the page replaces them with its CSS variables, so one plot serves light, dark
and print. Text that came from files must pass through `label`, since plotly reads a little HTML in every
text it draws.
"""

from __future__ import annotations

import html
import textwrap
from typing import Any

Figure = dict[str, Any]

ARM_COLOURS = 7
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
UNTRUSTED = "⚠ untrusted"


def label(text: str, width: int = 0) -> str:
    """Text from a file made safe for plotly; broken into lines of `width` characters when given."""
    lines = textwrap.wrap(text, width) if width else [text]
    return "<br>".join(html.escape(line) for line in lines)


def legend_name(arm_label: str, doubt: str = "") -> str:
    """A legend entry: a long name is cut, so that `doubt` ("⚠ untrusted") is never what is lost."""
    return f"{label(textwrap.shorten(arm_label, 44, placeholder=' …') or arm_label[:44])}{doubt}"


def arm_colour(index: int) -> str:
    """The colour token of the arm at `index`; colours repeat after ARM_COLOURS, symbols then tell arms
    apart."""
    return f"@arm{index % ARM_COLOURS}"


def arm_symbol(index: int) -> str:
    return SYMBOLS[(index + index // ARM_COLOURS) % len(SYMBOLS)]


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """An axis with a title that carries its unit."""
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
    """The common layout; `settings` add axes, shapes and annotations."""
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
    """A title above one panel of a figure; x and y in paper units."""
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


def log_ticks(low: float, high: float) -> list[float]:
    """Round ticks that cover low..high (both positive), closer together where the range is short."""
    steps = (1, 2, 5) if high > 30 * low else (1, 2, 3, 4, 6, 8)
    ticks = [m * 10.0**e for e in range(-12, 13) for m in steps]
    return [tick for tick in ticks if low / 1.3 <= tick <= high * 1.3]


def byte_unit(largest: float) -> tuple[float, str]:
    """(divisor, unit) that writes `largest` bytes with one to three digits before the point."""
    for divisor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= divisor:
            return divisor, unit
    return 1.0, "B"
