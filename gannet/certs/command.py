"""`gannet certs`: certificates of a cluster's roles, in files, and what is wrong with some that are there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gannet.cli.running import Commands
from gannet.console import Terminal, plain_table

if TYPE_CHECKING:
    from gannet.certs.folder import Found

console = Terminal()
certs = typer.Typer(
    name="certs", cls=Commands, help="Make and check a cluster's certificates, in files.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the certificates.")]


@certs.command(epilog="Example: [bold]gannet certs make secrets --host gpu1.example.org --days 30[/bold]")
def make(
    folder: FolderArgument,
    cluster: Annotated[str, typer.Option(help="The cluster's name in all certificates.")] = "gannet",
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|IP", help="A name or address of the controller's machine; may be repeated."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long they are valid.")] = 90,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace those that are there.")] = False,
) -> None:
    """Make an authority, and certificates and private keys of controller, node, agent and operator.

    Files are for their owner alone. A cluster makes its own; it takes these for the connections to its controller
    where GANNET_CERTS names their folder (docs/compose.md, docs/swarm.md). Messages between nodes have certificates
    of each run (`encrypt` in a spec), which are never in files.
    """
    from gannet.certs import folder as certificates  # not loaded by every other command

    certificates.make(folder, cluster, timedelta(days=days), host or (), overwrite)
    _print(certificates.look(folder))


@certs.command(epilog="Example: [bold]gannet certs show secrets[/bold]")
def show(folder: FolderArgument) -> None:
    """Show a folder's certificates: names, expiry, and what is wrong. The exit status is 1 if anything is."""
    from gannet.certs import folder as certificates

    found = certificates.look(folder)
    _print(found)
    if any(each.faults for each in found):
        raise typer.Exit(1)


def _print(found: list[Found]) -> None:
    table = plain_table("role", "names", "expires", "check")
    for each in found:
        expires = f"{each.expires:%Y-%m-%d %H:%M} UTC" if each.expires is not None else "–"
        check = "; ".join(each.faults) or "in order"
        table.add_row(*map(escape, (each.role, "\n".join(each.names) or "–", expires, check)))
    console.print(table)
