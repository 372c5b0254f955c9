"""`gannet net traces`: lists, describes and draws traces, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gannet.console import Terminal, fail, plain_table, rate
from gannet.netem.links.fields import FRAMES_OF_IP
from gannet.netem.links.trace import Trace, TraceError
from gannet.netem.links.trace_files import list_traces, load_trace
from gannet.netem.traces.figures import PERCENTILES, Figures, figures_of

_PIPE_WIDTH = 10_000
_NAMES = {"down_bps": "down", "up_bps": "up", "delay_ms": "one-way delay", "loss_percent": "loss"}


def traces(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Traces by name, or files: CSV or Mahimahi's; default: list them."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw them into this: .html, .svg or .png.")
    ] = None,
) -> None:
    """List the shipped traces; or describe the given ones, and draw them in one picture.

    Rates are of Ethernet frames, as links count them. Percentiles are of the time.
    """
    try:
        if out is not None:
            from gannet.report.figure_files import check_target

            check_target(out)
        loaded = [load_trace(name) for name in files or list_traces()]
        console = _console()
        if files:
            for number, trace in enumerate(loaded):
                if number:
                    console.print()
                _describe(trace, console)
        else:
            console.print(_list(loaded))
        if out is not None:
            from gannet.cli.network_files.trace_plots import drawing
            from gannet.report.figure_files import write_figure

            write_figure(drawing(loaded), out)
            console.print(f"drawn: {out}", markup=False, soft_wrap=True)
    except (TraceError, ValueError, OSError) as error:
        fail(str(error))
    except RuntimeError as error:
        fail(str(error), 1)


def register(app: typer.Typer) -> None:
    """Add the command to `gannet net`."""
    app.command(epilog="Example: [bold]gannet net traces starlink -o starlink.html[/bold]")(traces)


def _console() -> Terminal:
    console = Terminal()
    return console if console.is_terminal else Terminal(width=_PIPE_WIDTH)


def _list(loaded: list[Trace]) -> Table:
    table = plain_table()
    for heading in ("trace", "lasts", "down, mean (min to max)", "up, mean (min to max)", "outages", "source"):
        table.add_column(heading, no_wrap=heading in ("trace", "lasts"), overflow="fold")
    for trace in loaded:
        found = {each.field: each for each in figures_of(trace)}
        down, up = (_range(found.get(field)) for field in ("down_bps", "up_bps"))
        gaps = [gap for each in found.values() if (gap := each.outages) is not None and gap.count]
        out = f"{max(gap.count for gap in gaps)}, {max(gap.total_s for gap in gaps):.3g} s" if gaps else "–"
        lasts = f"{trace.length_s:g} s" + (", loops" if trace.loop else "")
        table.add_row(*map(escape, (trace.name, lasts, down, up, out, trace.source)))
    return table


def _range(figures: Figures | None) -> str:
    if figures is None:
        return "–"
    spread = figures.spread
    return f"{rate(spread.mean)} ({_rate(spread.least)} to {_rate(spread.most)})"


def _rate(bps: float) -> str:
    return rate(bps) if bps else "0"


def _describe(trace: Trace, console: Terminal) -> None:
    about = Table(box=None, pad_edge=False, show_header=False)
    about.add_column(style="dim", no_wrap=True)
    about.add_column(overflow="fold")
    kept = "wait in the buffer" if trace.outages == "keep" else "are lost"
    lasts = f"{trace.length_s:g} s" + (", then starts over" if trace.loop else "")
    if trace.up is not None:
        lasts = f"down {trace.duration_s:g} s, up {trace.up.duration_s:g} s, each then starts over"
    if trace.is_constant:
        lasts += ", and never changes"
    for heading, text in (
        ("trace", trace.name),
        ("source", trace.source or "–"),
        ("lasts", lasts),
        ("rates", "of Ethernet frames (1514 bytes for an IP packet of 1500)"),
        *((("outages", f"packets sent meanwhile {kept}"),) if trace.has_outage else ()),
    ):
        about.add_row(heading, escape(text))
    console.print(about)
    table = plain_table("", "mean", "min", *(f"{q}%" for q in PERCENTILES), "max", "changes", "outages", "longest")
    for each in figures_of(trace):
        table.add_row(*map(escape, _row(each)))
        if each.field.endswith("_bps"):
            table.add_row(f"{_NAMES[each.field]}, of IP", escape(_rate(each.spread.mean / float(FRAMES_OF_IP))))
    console.print(table)


def _row(figures: Figures) -> list[str]:
    spread, gaps = figures.spread, figures.outages
    values = (spread.mean, spread.least, *spread.percentiles, spread.most)
    text = {"delay_ms": "{:.4g} ms", "loss_percent": "{:.4g}%"}.get(figures.field)
    shown = [text.format(value) if text else _rate(value) for value in values]
    out = [f"{gaps.count}, {gaps.total_s:.4g} s", f"{gaps.longest_s:.4g} s"] if gaps and gaps.count else ["–", "–"]
    return [_NAMES[figures.field], *shown, str(figures.changes - 1), *out]
