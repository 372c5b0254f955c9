"""`gannet net profiles`, `regions` and `schema`: list the named links, and the format of their files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gannet.console import Terminal, errors, fail, plain_table, rate
from gannet.netem.links.fields import FATES
from gannet.netem.links.matrix_files import MatrixError
from gannet.netem.links.profile import LinkProfile, ProfileError, list_profiles, load_profile, user_profiles
from gannet.netem.links.regions import LinkMatrix, list_matrices, load_matrix
from gannet.netem.links.schema import schema_text

# A pipe gets whole lines, so that grep and awk find a profile's source on the line of its name.
_PIPE_WIDTH = 10_000
_WIDE = 150


def profiles(
    name: Annotated[str | None, typer.Argument(help="Only this one, in full: a name, or a .yaml file.")] = None,
) -> None:
    """List the link profiles, shipped and your own, that `apply` and a spec's `links` accept.

    Your own are .yaml files in ./profiles, or in the folders that GANNET_PROFILES lists (colons between them).
    """
    if name is not None:
        _show(name)
        return
    console = Terminal()
    wide = not console.is_terminal or console.width >= _WIDE
    table = plain_table()
    for heading in ("profile", "down", "up", "one way", "jitter", "loss", "buffer", "queue"):
        table.add_column(heading, no_wrap=heading == "profile")
    for heading in ("source", "assumed") if wide else ():
        table.add_column(heading, overflow="fold")
    own, shipped = user_profiles(), list_profiles()
    broken: list[str] = []
    for each, path in sorted([*((each, None) for each in shipped), *own.items()], key=lambda row: row[0]):
        try:
            profile = load_profile(each)
        except ProfileError as error:
            broken.append(str(error))
            continue
        cells = [rate(profile.down_bps), rate(profile.up_bps), delay(profile), jitter(profile), loss(profile)]
        told = [(f"{path}: " if path else "") + (profile.source or "no source"), "; ".join(profile.assumed) or "–"]
        row = [each, *cells, buffer(profile), queue(profile), *(told if wide else ())]
        table.add_row(*map(escape, row))
    _print(table)
    if not wide:
        console.print("sources, and what is assumed: gannet net profiles NAME, or a wider window", style="dim")
    for complaint in dict.fromkeys(broken):
        errors.print(complaint, style="red", markup=False, soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it to this file; default: standard output.")
    ] = None,
) -> None:
    """Print the JSON Schema of profile files, for editors.

    Refer to it in your own file: # yaml-language-server: $schema=FILE
    """
    if out is None:
        sys.stdout.write(schema_text())
        return
    try:
        out.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        fail(f"{out}: {error.strerror}")


def regions(
    name: Annotated[str | None, typer.Argument(help="Only this matrix, cell by cell: a name, .yaml or .csv.")] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="The file has one-way delays.")] = False,
    round_trips: Annotated[
        bool, typer.Option("--round-trips", help="The file has round trips, which are halved.")
    ] = False,
) -> None:
    """List the matrices of delays between regions of the world that a spec's `links.regions` accepts.

    With a name: one-way delays in ms, from the row's region (or node) to the column's, and losses and rates where it
    has any. A CSV file says in its head whether it has one-way delays or round trips, or an option does.
    """
    if one_way and round_trips:
        fail("--one-way and --round-trips exclude each other: keep one")
    if (one_way or round_trips) and (name is None or not name.endswith((".csv", ".yaml", ".yml"))):
        fail(f"--{'one-way' if one_way else 'round-trips'} is of a file: name one")
    kind = "delays_ms" if one_way else "round_trips_ms" if round_trips else ""
    table = plain_table()
    try:
        if name is None:
            for heading in ("matrix", "regions", "source", "assumed"):
                table.add_column(heading, overflow="fold")
            for matrix in map(load_matrix, list_matrices()):
                told = [", ".join(matrix.regions), matrix.source, "; ".join(matrix.assumed)]
                table.add_row(*map(escape, (matrix.name, *told)))
        else:
            matrix = load_matrix(name, kind)
            labels = matrix.regions or [str(rank) for rank in range(len(matrix.delays_ms or matrix.rates or ()))]
            table.add_column("one way, ms" if matrix.delays_ms else "rate", no_wrap=True)
            for heading in labels:
                table.add_column(escape(heading), no_wrap=True, justify="right")
            for row, label in enumerate(labels):
                table.add_row(escape(label), *(_cell(matrix, row, column) for column in range(len(labels))))
    except MatrixError as error:
        fail(str(error))
    _print(table, always_whole=name is not None)


def _cell(matrix: LinkMatrix, row: int, column: int) -> str:
    delay_ms = matrix.delays_ms[row][column] if matrix.delays_ms else None
    loss_percent, rate = matrix.loss_percent(row, column), matrix.rate(row, column)
    found = [] if delay_ms is None else [f"{delay_ms:.4g}"]
    found += [f"{loss_percent:.3g}%"] if loss_percent else []
    found += [rate] if rate else []
    return escape(" ".join(found)) if found and (row != column or matrix.regions) else "–"


def _print(table: Table, always_whole: bool = False) -> None:
    """Print fitted to a terminal; to a pipe, or where a row must not break, with lines at full length."""
    console = Terminal()
    if always_whole or not console.is_terminal:
        console = Terminal(width=_PIPE_WIDTH)
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def register(app: typer.Typer) -> None:
    """Add these commands to `gannet net`."""
    app.command(epilog="Example: [bold]gannet net profiles starlink[/bold]")(profiles)
    app.command(epilog="Example: [bold]gannet net regions aws[/bold]")(regions)
    app.command()(schema)


def _show(name: str) -> None:
    console = Terminal()
    try:
        profile = load_profile(name)
    except ProfileError as error:
        fail(str(error))
    rows: list[tuple[str, Callable[[LinkProfile], str]]] = [
        ("down", lambda p: rate(p.down_bps)),
        ("up", lambda p: rate(p.up_bps)),
        ("one way", delay),
        ("jitter", jitter),
        ("loss", loss),
        (", ".join(declared.fate for declared in FATES.values()), lambda p: ", ".join(_oddities(p)) or "–"),
        ("buffer", buffer),
        ("queue", queue),
        ("source", lambda p: p.source or "–"),
        ("assumed", lambda p: "\n".join(p.assumed) or "–"),
    ]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("profile", escape(profile.name))
    for heading, text in rows:
        table.add_row(heading, escape(text(profile)))
    console.print(table)


def delay(profile: LinkProfile) -> str:
    """The delay of one direction; where the two differ, of what arrives (↓) and what leaves (↑)."""
    down_ms, up_ms = profile.down_delay_ms, profile.up_delay_ms
    return f"{down_ms:g} ms" if down_ms == up_ms else f"↓ {down_ms:g} ↑ {up_ms:g} ms"


def jitter(profile: LinkProfile) -> str:
    """For example "± 5 ms normal, 25% correlated"."""
    if not profile.jitter_ms:
        return "–"
    correlated = profile.jitter_correlation_percent
    return f"± {profile.jitter_ms:g} ms {profile.jitter_distribution}" + (
        f", {correlated:g}% correlated" if correlated else ""
    )


def loss(profile: LinkProfile) -> str:
    """For example "1% in bursts of 8", and other effects on packets."""
    bursts = profile.gilbert_elliott
    lost = f"{profile.mean_loss_percent:.3g}%"
    if bursts is not None:
        parts = [f"{lost} in bursts of {bursts.bad_packets:.3g}"]
    else:
        parts = [lost] if profile.loss_percent else []
    return ", ".join([*parts, *_oddities(profile)]) or "–"


def _oddities(profile: LinkProfile) -> Iterable[str]:
    shares = ((getattr(profile, name), declared.fate) for name, declared in FATES.items())
    return [f"{share:g}% {what}" for share, what in shares if share]


def buffer(profile: LinkProfile) -> str:
    """The buffer in front of each rate limit, in the unit of its file."""
    if profile.buffer_bytes is not None:
        return f"{profile.buffer_bytes} B"
    if profile.buffer_packets is not None:
        return f"{profile.buffer_packets} packets"
    return f"{100 if profile.buffer_ms is None else profile.buffer_ms:g} ms"


def queue(profile: LinkProfile) -> str:
    """For example "fifo" or "codel, shared"."""
    return profile.queue + (", shared" if profile.down_queue == "shared" else "")
