"""How the `gannet` command speaks: an error is one line on stderr and ends it; plain tables; figures with units."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

errors = Console(stderr=True, highlight=False)


def say_error(message: str) -> None:
    """One error, as all of this command's are."""
    errors.print(f"gannet: {message}", style="red", markup=False, soft_wrap=True)


def fail(message: str, status: int = 2) -> NoReturn:
    """Say what is wrong and end the command; status 2: the command was wrong, 1: what it was asked to do failed."""
    say_error(message)
    raise typer.Exit(status)


def plain_table(*headings: str, no_wrap: bool = False) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, no_wrap=no_wrap)
    return table


def rate(bps: float | None, none: str = "no cap") -> str:
    """For example "10 Mbit/s"; `none` where there is none."""
    if bps is None:
        return none
    unit, size = next(
        (u, s) for u, s in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1)) if bps >= s
    )
    return f"{bps / size:.4g} {unit}"


def milliseconds(value_ms: float | None) -> str:
    """Two digits behind the point, which echoes are good for; None is not known."""
    return "–" if value_ms is None else f"{value_ms:.2f} ms"
