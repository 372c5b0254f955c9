"""Terminal output of the `gannet` command: errors on stderr, plain tables, figures with units."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

errors = Console(stderr=True, highlight=False)


def say_error(message: str) -> None:
    """Print an error as every error of the command looks."""
    errors.print(f"gannet: {message}", style="red", markup=False, soft_wrap=True)


def fail(message: str, status: int = 2) -> NoReturn:
    """Print an error and end the command; status 2: invalid usage, 1: the command failed."""
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
    """With two decimals, the precision of the echoes; None: not known."""
    return "–" if value_ms is None else f"{value_ms:.2f} ms"
