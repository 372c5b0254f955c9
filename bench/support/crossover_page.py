"""How bench/crossover.py shows what it found: a table on the terminal, the same in markdown, heat maps in HTML."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from support import pages

SHORT = {
    "gossip-ring": "ring",
    "gossip-peer": "one peer",
    "choco": "CHOCO",
    "all-reduce": "all-reduce",
    "server": "server",
    "exact-gradients": "gradients",
    "gradients": "QSGD",
    "local": "10 steps",
}
# A colour for each method, distinguishable with colour blindness (after Okabe and Ito 2008).
COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#999999", "#f0e442", "#cc79a7", "#d55e00")


def grids(result: dict[str, Any]) -> list[tuple[int, list[float], list[float], dict[tuple[float, float], Any]]]:
    """For every number of nodes: (nodes, rates, delays, cell by rate and delay)."""
    made = []
    for nodes, cells in groupby(result.get("map", []), key=lambda cell: cell["nodes"]):
        by_link = {(cell["rate_mbps"], cell["delay_ms"]): cell for cell in cells}
        rates, delays = (sorted({key[part] for key in by_link}) for part in (0, 1))
        made.append((nodes, rates, delays, by_link))
    return made


def words(cell: dict[str, Any]) -> str:
    """The winner of a cell and the runner-up's time in its own."""
    if cell["winner"] is None:
        return "none"
    return SHORT[cell["winner"]] + (f" {cell['lead']:.2f}" if cell["lead"] is not None else "")


def sample_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Predicted and measured values, a line for each cell and method."""
    return [
        (
            str(found["nodes"]),
            f"{found['rate_mbps']:g}",
            f"{found['delay_ms']:g}",
            result["sample"]["labels"][found["method"]],
            f"{found['measured_s']:.3f}",
            f"{found['predicted_s']:.3f}",
            f"{100 * found['error']:+.1f}%",
            "yes" if found["trusted"] else "NO",
        )
        for found in result.get("sample", {}).get("cells", [])
    ]


SAMPLE_HEADINGS = ("nodes", "Mbit/s", "ms", "method", "measured s", "predicted s", "off", "links trusted")


def sample_caption(result: dict[str, Any]) -> str:
    """How good the predictions of the sample are, and on what machine it ran."""
    sample = result["sample"]
    off = [abs(found["error"]) for found in sample["cells"]]
    return (
        f"Seconds a step. Off by {100 * median(off):.1f}% in the median, {100 * max(off):.1f}% at most; "
        f"{sum(error <= 0.05 for error in off)} of {len(off)} within 5%. Engine {sample['engine']}, "
        f"{sample['cpus']} CPUs, load {sample['load_before']:.1f} before and {sample['load_after']:.1f} after."
    )


def map_caption(result: dict[str, Any]) -> str:
    """The conditions that the map holds for."""
    s = result["settings"]
    return (
        f"Predicted. The first method to come within {s['score']:g} of the first distance to the saddle point, and "
        f"how many times as long the second takes; messages of {4e-6 * s['values']:.2f} MB, a gradient takes "
        f"{s['pace_ms']:g} ms."
    )


def steps_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Steps to the score: a line for each method, a column for each number of nodes."""
    found = grids(result)
    return [
        (result["labels"][name], *(str(next(iter(cells.values()))["steps"][name] or "–") for *_, cells in found))
        for name in result.get("labels", {})
    ]


def show(result: dict[str, Any], console: Any) -> None:
    """All tables on the terminal."""
    from rich.table import Table

    console.width = max(console.width, 112)
    for nodes, rates, delays, cells in grids(result):
        table = Table(title=f"{nodes} nodes", title_justify="left")
        table.add_column("Mbit/s", justify="right")
        for delay in delays:
            table.add_column(f"{delay:g} ms")
        for rate in rates:
            table.add_row(f"{rate:g}", *(words(cells[rate, delay]) for delay in delays))
        console.print(table)
    if "map" in result:
        console.print(map_caption(result))
    if "sample" in result:
        table = Table(title="Predicted and measured", caption=sample_caption(result))
        for heading in SAMPLE_HEADINGS:
            table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
        for row in sample_rows(result):
            table.add_row(*row)
        console.print(table)


def markdown(result: dict[str, Any]) -> str:
    """The same for a document."""
    text = []
    for nodes, rates, delays, cells in grids(result):
        rows = [(f"{rate:g}", *(words(cells[rate, delay]) for delay in delays)) for rate in rates]
        text.append(f"**{nodes} nodes**\n\n{pages.table(('Mbit/s', *(f'{delay:g} ms' for delay in delays)), rows)}")
    if text:
        text.append(map_caption(result))
        text.append(
            "Short names: " + "; ".join(f"{SHORT[k]}: {label}" for k, label in result["labels"].items()) + "."
        )
        text.append(
            "Steps to the score (–: not reached, or not run):\n\n"
            + pages.table(("method", *(f"{nodes} nodes" for nodes, *_ in grids(result))), steps_rows(result))
        )
    if "sample" in result:
        text.append(f"Predicted and measured:\n\n{pages.table(SAMPLE_HEADINGS, sample_rows(result))}")
        text.append(sample_caption(result))
    return "\n\n".join(text) + "\n"


def write_html(result: dict[str, Any], path: Path) -> None:
    """A page that needs nothing else: a heat map for each number of nodes, the winner by colour."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    found, labels = grids(result), result["labels"]
    figure = make_subplots(len(found), 1, subplot_titles=[f"{nodes} nodes" for nodes, *_ in found])
    numbers = {name: number for number, name in enumerate(labels)}
    scale = [(end / len(labels), COLOURS[k]) for k in range(len(labels)) for end in (k, k + 1)]
    for row, (_, rates, delays, cells) in enumerate(found, start=1):
        lined = [[cells[rate, delay] for delay in delays] for rate in rates]
        figure.add_trace(
            go.Heatmap(
                x=[f"{delay:g} ms" for delay in delays],
                y=[f"{rate:g} Mbit/s" for rate in rates],
                z=[[numbers.get(cell["winner"]) for cell in line] for line in lined],
                text=[[words(cell) for cell in line] for line in lined],
                customdata=[[hover(cell, labels) for cell in line] for line in lined],
                texttemplate="%{text}",
                hovertemplate="%{customdata}<extra></extra>",
                zmin=-0.5,
                zmax=len(labels) - 0.5,
                colorscale=scale,
                xgap=2,
                ygap=2,
                showscale=row == 1,
                colorbar={
                    "tickvals": list(numbers.values()),
                    "ticktext": list(labels.values()),
                    "len": 1 / len(found),
                    "y": 1,
                    "yanchor": "top",
                },
            ),
            row=row,
            col=1,
        )
    title = f"Which method reaches the score first<br><sub>{map_caption(result)}</sub>"
    figure.update_layout(title=title, height=140 + 300 * len(found), template="plotly_white")
    figure.write_html(path, include_plotlyjs=True, full_html=True)


def hover(cell: dict[str, Any], labels: dict[str, str]) -> str:
    """Every method's seconds in a cell, the fastest first."""
    ranked = sorted((seconds, name) for name, seconds in cell["seconds"].items() if seconds is not None)
    return "<br>".join(
        f"{labels[name]}: {seconds:.0f} s ({cell['steps'][name]} steps of {cell['step_s'][name]:.3f} s)"
        for seconds, name in ranked
    )
