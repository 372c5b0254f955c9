"""`gannet net import`: files of networks that other programs write, as the links of a spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gannet.console import errors, fail, os_error_text
from gannet.netem.formats.base import FormatError, Imported, Nodes, Options
from gannet.netem.formats.written import files_of, how_to_use
from gannet.netem.links.yaml_files import printable

_PARTS = ("largest", "complete")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its format is recognised by its content.")],
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="N|NAMES",
            help="The first N nodes, or those of these names (or numbers), commas between; `largest`: the largest "
            "part that is connected; `complete`: those between which no latency is missing.",
        ),
    ] = None,
    round_trip: Annotated[bool, typer.Option("--round-trip", help="Its latencies are round trips.")] = False,
    one_way: Annotated[bool, typer.Option("--one-way", help="Its latencies are one way.")] = False,
    unit: Annotated[
        str | None, typer.Option(help="Of numbers of which the file says none: ms, s; kbit, Mbit.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of its profiles or links, where it has several.")
    ] = None,
    bin_ms: Annotated[
        int | None, typer.Option("--bin-ms", min=1, max=3_600_000, help="Average a trace's figures over bins, ms.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Its format, where it could be several.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write it: a spec, a profile or a matrix (.yaml), or a trace (.csv)."
        ),
    ] = None,
) -> None:
    """Read a network that another program wrote, say what was understood, and write it as links of a spec (-o).

    What a plan cannot hold is said; what a file does not say, its unit or whether it has round trips, is asked for.
    """
    if round_trip and one_way:
        fail("--one-way and --round-trip exclude each other: keep one")
    from gannet.netem.formats.registry import import_file  # numpy, which other commands do without

    said = True if round_trip else False if one_way else None
    try:
        imported = import_file(file, Options(_nodes(nodes), said, unit, name, bin_ms, format_))
        texts = files_of(imported, out, file) if out else {}
    except FormatError as error:
        fail(str(error))
    _tell(imported)
    if out is None:
        errors.print("add -o FILE to write it", style="dim")
        return
    for path, text in texts.items():
        if path.exists() and path.samefile(file):
            fail(f"{path}: the imported file itself: write to another one")
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{path}: {os_error_text(error)}")
    sys.stdout.write(f"written: {', '.join(map(str, texts))}\nuse: {how_to_use(imported, out)}\n")


def _nodes(text: str | None) -> Nodes:
    if text is None or text in _PARTS:
        return text
    if text.isdecimal():
        return int(text[:9])
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _tell(imported: Imported) -> None:
    sys.stdout.write(f"{imported.format}\n")
    for fact in imported.facts:
        sys.stdout.write(f"  {printable(fact)}\n")
    for sentence in imported.dropped:
        sys.stdout.write(f"  not held: {printable(sentence)}\n")


def register(app: typer.Typer) -> None:
    """Add this command to `gannet net`."""
    app.command(
        "import",
        epilog="Examples: [bold]gannet net import network.gml --nodes 8 -o links.yaml[/bold], "
        "[bold]gannet net import rtt.txt --round-trip --unit ms -o far.yaml[/bold]",
    )(import_)
