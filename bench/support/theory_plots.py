"""The plots of bench/theory.py: five panels on one self-contained page, measured points with the papers' lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

_MEASURED, _BOUND, _SECOND, _THIRD = "#4477aa", "#bb5566", "#ddaa33", "#228833"
_TITLES = (
    "‖g(z̄)‖² against iterations N", "‖g(z̄)‖² from x* against samples mM", "‖g(z̄)‖² against gossip rounds t",
    "Nodes apart after mixing, against ρ^t", "QSVRG: f − f* by epochs",
)  # fmt: skip


def write_page(result: dict[str, Any], out: Path) -> None:
    """Draw bench/theory.py's results."""
    page = make_subplots(rows=2, cols=3, subplot_titles=_TITLES, horizontal_spacing=0.08, vertical_spacing=0.14)
    points = result["by_iterations"]["points"]
    n = [p["iterations"] for p in points]
    _measured(page, 1, 1, n, [p["mean_square"] for p in points], "measured", legend=True)
    _line(page, 1, 1, n, [p["bound"] for p in points], "the theorem's bound", legend=True)
    _axes(page, 1, 1, "N, iterations", "(1/N) Σ ‖g(z̄_k)‖²")
    for batch, colour in ((1, _MEASURED), (4, _SECOND)):
        runs = [r for r in result["by_samples"] if r["batch"] == batch]
        samples = [r["workers"] * batch for r in runs]
        _measured(page, 1, 2, samples, [r["mean_square"] for r in runs], f"measured, m = {batch}", colour)
    runs = [r for r in result["by_samples"] if r["batch"] == 1]
    _line(page, 1, 2, [r["workers"] for r in runs], [r["bound"] for r in runs], "the theorem's bound")
    law = [runs[0]["mean_square"] / r["workers"] for r in runs]
    _line(page, 1, 2, [r["workers"] for r in runs], law, "∝ 1/(mM)", _THIRD)
    _axes(page, 1, 2, "mM, samples an iteration", "(1/N) Σ ‖g(z̄_k)‖²")
    runs = result["by_rounds"]
    rounds = [r["rounds"] for r in runs]
    _measured(page, 1, 3, rounds, [r["mean_square"] for r in runs], "measured")
    _line(page, 1, 3, rounds, [r["bound"] for r in runs], "the theorem's bound")
    needed = [runs[0]["rounds_needed"]] * 2
    _line(page, 1, 3, needed, [runs[0]["mean_square"] / 2, runs[0]["bound"]], "the theorem's t", _THIRD, legend=True)
    _axes(page, 1, 3, "t, gossip rounds an iteration (ring of 8)", "(1/N) Σ ‖g(z̄_k)‖²")
    runs = result["consensus"]
    left = [r["rho"] ** r["rounds"] for r in runs]
    words = [f"{r['topology']} of {r['workers']}, t = {r['rounds']}" for r in runs]
    _measured(page, 2, 1, left, [r["apart"] / r["gradients_apart"] for r in runs], "measured", text=words)
    _line(page, 2, 1, sorted(left), [rest / (1 - rest) for rest in sorted(left)], "at most ρ^t/(1 − ρ^t)")
    _axes(page, 2, 1, "ρ^t", "distance of X W^t from the nodes' mean ÷ that of η ĝ")
    epochs = list(range(len(result["qsvrg"][0]["gaps"]) + 1))
    for q, colour in zip(result["qsvrg"], (_MEASURED, _SECOND, _THIRD), strict=True):
        _measured(page, 2, 2, epochs, [1.0, *q["gaps"]], f"{q['problem']}, n = {q['size']}", colour, legend=True)
    _line(page, 2, 2, epochs, [0.9**p for p in epochs], "0.9^p", legend=True)
    _axes(page, 2, 2, "p, epochs", "(f(y) − f*) ÷ (f(y_1) − f*)", x_log=False)
    page.update_layout(template="plotly_white", height=900, title="What the papers prove, and what was measured")
    page.write_html(out, include_plotlyjs=True, full_html=True)


def _measured(
    page: go.Figure, row: int, column: int, x: Sequence[float], y: Sequence[float], name: str,
    colour: str = _MEASURED, legend: bool = False, text: list[str] | None = None,
) -> None:  # fmt: skip
    page.add_scatter(x=x, y=y, mode="markers", name=name, text=text, marker={"color": colour, "size": 8},
                     showlegend=legend, row=row, col=column)  # fmt: skip


def _line(
    page: go.Figure, row: int, column: int, x: Sequence[float], y: Sequence[float], name: str, colour: str = _BOUND,
    legend: bool = False,
) -> None:  # fmt: skip
    page.add_scatter(x=x, y=y, mode="lines", name=name, line={"color": colour, "dash": "dash"}, showlegend=legend,
                     row=row, col=column)  # fmt: skip


def _axes(page: go.Figure, row: int, column: int, x: str, y: str, x_log: bool = True) -> None:
    page.update_xaxes(title_text=x, type="log" if x_log else "linear", row=row, col=column)
    page.update_yaxes(title_text=y, type="log", exponentformat="power", row=row, col=column)
