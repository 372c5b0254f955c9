"""`gannet algorithm check`: finds common mistakes in a user's algorithm before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gannet.cli.findings import print_findings
from gannet.cli.own_files import specs_with
from gannet.console import Terminal, fail
from gannet.spec.load import SpecError
from gannet.spec.run_spec import RunSpec

algorithm = typer.Typer(name="algorithm", help="Check algorithms of your own.", no_args_is_help=True)


@algorithm.callback()
def _group() -> None:
    pass  # makes `check` a subcommand; the help stands above


@algorithm.command(epilog="Example: [bold]gannet algorithm check my_algorithm.py --settings every=4[/bold]")
def check(
    file: Annotated[
        Path, typer.Argument(help="An algorithm's .py file; or a spec's .yaml, for the algorithms of its arms.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--settings", metavar="KEY=VALUE", help="A setting of the algorithm.")
    ] = None,
    topology: Annotated[str, typer.Option(help="What to gossip on; a spec has its own.")] = "ring",
    nodes: Annotated[int, typer.Option(min=2, max=64, help="How many nodes; a spec has its own.")] = 5,
) -> None:
    """Look for the common mistakes in an algorithm: mixing, bytes, deadlocks, repeats, resuming, lost peers.

    It trains small games on the virtual fabric. Exit status: 0 if none was found, 1 otherwise.
    """
    console = Terminal()
    try:
        found = 0
        for title, spec in _specs(file, settings or [], topology, nodes):
            from gannet.experiment.algorithm_check import check_algorithm  # imports torch

            found += print_findings(console, title, check_algorithm(spec))
    except (SpecError, ValueError, FileNotFoundError) as error:
        fail(str(error), 1)
    raise typer.Exit(1 if found else 0)


def _specs(file: Path, settings: Sequence[str], topology: str, nodes: int) -> list[tuple[str, RunSpec]]:
    """(title, run) of each arm of a spec, or of the file alone."""
    rest = {"task": {"name": "game"}, "topology": topology, "nodes": nodes, "pace_ms": 20}
    arms = specs_with(file, "algorithm", "an", settings, rest)
    if own := next((name for name, arm in arms.items() if arm.players), None):
        raise ValueError(f"in arm {own}: players: check their algorithms one by one, each in a spec of its own")
    titles = {name: arm.algorithm.title for name, arm in arms.items()}
    return [(f"{titles[name]} (arm {name})" if len(arms) > 1 else titles[name], arm) for name, arm in arms.items()]
