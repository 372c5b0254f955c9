"""The commands of `gannet net` that run other programs over the links: `up` and `exec`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from gannet.cli.net import ControllerOption, console, net
from gannet.console import fail, say_error
from gannet.fabrics.namespaces.sandbox import SandboxError
from gannet.netem.links.profile import ProfileError


@net.command(epilog="Examples: [bold]gannet net up lte -n 3[/bold], [bold]gannet net up my.yaml --set "
             "links.nodes='{2: 3g-slow}'[/bold], [bold]gannet net up demo -n 2[/bold]")  # fmt: skip
def up(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PROFILE|SPEC",
            help="A shipped profile, a spec (its links, nodes, engine and seed count), or a .yaml file of either; "
            "default: unshaped.",
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option("-n", "--nodes", metavar="N", help="How many nodes; default 4.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec, e.g. --set links=lte."),
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Which arm, where a spec's arms differ in their links.")] = None,
    certify: Annotated[bool, typer.Option(help="Measure every link before anybody uses it.")] = True,
) -> None:
    """Start a network without training: namespaces with shaped links, measured, and kept until Ctrl-C.

    Programs enter it by [bold]gannet net exec[/bold]; show, apply, partition and the rest work as on a run.
    """
    from gannet.cli.standalone_network import hold, spec_of
    from gannet.netem.preflight import EngineUnavailable
    from gannet.spec.load import SpecError

    try:
        hold(spec_of(source, nodes, set_ or (), arm), certify, console)
    except (SpecError, ProfileError, SandboxError) as error:
        fail(str(error))
    except (EngineUnavailable, RuntimeError, OSError) as error:
        _leave(str(error), 1)
    _leave("", 0)


def _leave(message: str, status: int) -> NoReturn:
    """End this process, and with it the sandbox, without waiting for threads that a signal left at a lock."""
    if message:
        say_error(message)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@net.command("exec", epilog="Examples: [bold]gannet net exec 1 -- iperf3 -s -1[/bold], "
             "[bold]gannet net exec 0 -- sh -c 'iperf3 -c ${GANNET_PEERS%% *}'[/bold]")  # fmt: skip
def exec_(
    node: Annotated[int, typer.Argument(metavar="NODE", help="The node's number, from 0.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="After --: any program and its arguments.")],
    root: Annotated[
        bool,
        typer.Option("--root", help="On namespaces: with all rights over the node's network, as ping and ip want."),
    ] = False,
    controller: ControllerOption = None,
) -> None:
    """Run a command inside a node of a run, a cluster of containers, or [bold]gannet net up[/bold].

    On namespaces everything but the network stays as in your shell: user, files, folder, terminal, standard streams,
    signals. In a container it is `docker exec`. GANNET_NODE, GANNET_NODES (how many), GANNET_ADDRESS and GANNET_PEERS
    (addresses, by rank) tell the program where it is. The exit status is the program's; 125: it could not be started.
    """
    from gannet.cli.exec_at_node import CannotEnter, enter_and_run

    try:
        status = enter_and_run(controller, node, command, root)
    except CannotEnter as error:
        fail(str(error), error.status)
    raise typer.Exit(status)
