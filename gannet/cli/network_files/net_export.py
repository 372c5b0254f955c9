"""`gannet net export`: the links of a spec or profile, or a trace, in the formats of other tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gannet.console import Terminal, errors, fail, os_error_text
from gannet.netem.exports import mahimahi
from gannet.netem.exports.formats import FORMATS
from gannet.netem.exports.paths import Exported, ExportError
from gannet.netem.links.profile import ProfileError, list_profiles
from gannet.netem.links.trace import TraceError
from gannet.netem.links.trace_files import list_traces, load_trace

if TYPE_CHECKING:
    from gannet.spec.run_spec import RunSpec


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE|SPEC|TRACE",
            help="A shipped profile, a spec, a .yaml file of either; for Mahimahi, a trace or its file as well.",
        ),
    ],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Write the files into this folder.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option("-n", "--nodes", metavar="N", help="How many nodes; default: the spec's, or 4.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec, e.g. --set links=lte."),
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Which arm, where a spec's arms differ in their links.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="It names a trace, not the profile of that name.")] = False,
    device: Annotated[str, typer.Option(help="The nodes' network interface there.")] = "eth0",
    addresses: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="The nodes' IPv4 addresses there, by commas; default: those of a run."),
    ] = None,
) -> None:
    """Write links as tc scripts, tcconfig's JSON, containerlab's netem settings or Mahimahi's files.

    What a format cannot hold is refused, or said on standard error, a line each. Without --out a single file is
    printed. tc takes the nodes' addresses from one network no wider than /16.
    """
    if form not in FORMATS:
        fail(f"--format {form}: one of {', '.join(FORMATS)}")
    try:
        if trace or (form == "mahimahi" and _is_trace(source)):
            if form != "mahimahi":
                fail(f"--trace: {form} holds no traces; --format mahimahi does")
            done = mahimahi.export_trace(load_trace(source))
        else:
            done = _network(source, form, (nodes, set_ or (), arm), device, addresses)
        _write(done, out, source, form)
    except (TraceError, ProfileError, ExportError) as error:
        fail(str(error))
    except OSError as error:
        fail(os_error_text(error))


def register(app: typer.Typer) -> None:
    """Add the command to `gannet net`."""
    app.command(epilog="Example: [bold]gannet net export lte -n 2 --format tc -o scripts[/bold]")(export)


def _is_trace(source: str) -> bool:
    if source.endswith((".yaml", ".yml")) or source in list_profiles():
        return False
    return source in list_traces() or Path(source).is_file()


def _network(
    source: str, form: str, chosen: tuple[int | None, Sequence[str], str | None], device: str, addresses: str | None
) -> Exported:
    from gannet.cli.standalone_network import spec_of
    from gannet.fabrics.addresses import mesh_address
    from gannet.spec.load import SpecError

    try:
        spec = spec_of(source, *chosen)
        state, _ = spec.links_over_time
        given = [mesh_address(rank) for rank in range(spec.nodes)] if addresses is None else _addresses(addresses)
        if len(given) != spec.nodes:
            fail(f"--addresses: {len(given)} for {spec.nodes} nodes: give one each")
        plans = state.plans(given, [device] * spec.nodes, spec.seed)
        done = FORMATS[form](plans)
    except SpecError as error:
        fail(str(error))
    except ExportError:
        raise
    except ValueError as error:
        fail(f"{source}: {error}")
    return _changing(spec, form, done)


def _changing(spec: RunSpec, form: str, done: Exported) -> Exported:
    """With the traces of a schedule, where the format has any, and notes on all else that changes."""
    files, notes, rest = dict(done.files), list(done.notes), list(spec.links.schedule)
    traced = (
        [entry for entry in rest if entry.trace is not None and entry.for_s is None] if form == "mahimahi" else []
    )
    ranks = [rank for entry in traced for rank in entry.nodes or range(spec.nodes)]
    for entry in traced:
        mine = entry.nodes or range(spec.nodes)
        if any(ranks.count(rank) > 1 for rank in mine):
            continue
        written = mahimahi.export_trace(replace(entry.played, name="trace"))
        for rank in mine:
            files |= {f"node-{rank}.{name.rpartition('.')[2]}": text for name, text in written.files.items()}
        notes += [note.replace("trace trace", f"trace {entry.played.name}") for note in written.notes]
        notes += [f"{entry.what} begins at {entry.at_s:g} s; there at once"] if entry.at_s else []
        rest.remove(entry)
    if rest:
        notes.append(
            f"schedule: left out, {len(rest)} of its entries ({rest[0].what}{', …' if len(rest) > 1 else ''})"
        )
    if spec.links.stack != type(spec.links.stack)():
        notes.append("stack: left out (congestion control, MTU and the like are the programs' own there)")
    return Exported(files, tuple(notes))


def _addresses(text: str) -> list[str]:
    found = []
    for each in text.split(","):
        try:
            found.append(str(IPv4Address(each.strip())))
        except AddressValueError:
            fail(f"--addresses: {each.strip()!r} is no IPv4 address")
    if len({*found}) < len(found):
        fail("--addresses: each once")
    return found


def _write(done: Exported, out: Path | None, source: str, form: str) -> None:
    if out is None:
        if len(done.files) > 1:
            fail(f"{source} is {len(done.files)} files as {form} ({', '.join([*done.files][:3])} …): add -o FOLDER")
        sys.stdout.write(next(iter(done.files.values())))
    else:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in done.files.items():
            (out / name).write_text(text, encoding="utf-8")
        Terminal().print(f"written: {len(done.files)} files in {out}", markup=False, soft_wrap=True)
    for note in done.notes:
        errors.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
