"""Terminal output of the `gannet` command: errors on stderr, plain tables, figures with units."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from gannet.plain_text import harmless


class Terminal(Console):
    """The console of every command: labels, messages and logs that come from files cannot command the terminal."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See Console: all that is printed passes here. Colours are added later, to segments."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else harmless(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


errors = Terminal(stderr=True)


def say_error(message: str) -> None:
    """Print an error as every error of the command looks."""
    errors.print(f"gannet: {message}", style="red", markup=False, soft_wrap=True)


def fail(message: str, status: int = 2) -> NoReturn:
    """Print an error and end the command; status 2: invalid usage, 1: the command failed."""
    say_error(message)
    raise typer.Exit(status)


def os_error_text(error: OSError) -> str:
    """What the system refused, where, and what to do; our own errors of these kinds say it themselves."""
    if error.errno is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"{where}the disk is full; what was written before is kept: free some space, then try again"
        case errno.EROFS:
            return f"{where}the file system is read-only: choose a place on another"
        case errno.EACCES | errno.EPERM:
            return f"{where}permission denied: choose another place, or have its owner allow it"
        case errno.ENOTDIR:
            return f"{where}a part of this path is a file, not a folder: choose another path"
        case errno.EEXIST:
            return f"{where}something of this name is in the way: choose another path"
        case errno.EISDIR:
            return f"{where}this is a folder, where a file should be"
        case errno.ENOENT:
            return f"{where}no such file or folder"
        case errno.ENAMETOOLONG:
            return f"{where}the name is too long"
    return f"{where}{error.strerror or error}"


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


def one_line(text: str, most: int = 160) -> str:
    """An enumeration by ", " that fits a line: what is beyond `most` characters is counted, not written out."""
    if len(text) <= most:
        return text
    parts = text.split(", ")
    kept = [parts[0]]
    for part in parts[1:]:
        if len(", ".join([*kept, part])) > most - len(", and 1000 more"):
            break
        kept.append(part)
    rest = len(parts) - len(kept)
    shown = ", ".join(kept)
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return f"{shown}, and {rest} more" if rest else shown
