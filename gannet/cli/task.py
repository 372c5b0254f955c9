"""`gannet task`: shows the size and cost of a task, before anything is run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gannet.cli.task_check import add_check
from gannet.console import Terminal, fail
from gannet.spec.load import SpecError, load_spec, resolve, shipped_specs
from gannet.spec.run_spec import ComparisonSpec

console = Terminal()

task = typer.Typer(name="task", help="Show what tasks cost, and check your own.", no_args_is_help=True)
add_check(task)

_CIFAR = {"name": "cifar10", "root": "."}  # the data is never read
EXAMPLES: dict[str, dict[str, Any]] = {
    "small": {},
    "dcgan": {
        "task": {"architecture": "dcgan", "loss": "non-saturating", "latent": 100, "width": 64},
        "data": {"name": "image-folder", "root": ".", "image_size": 64},
        "batch": 128,
    },
    "resnet": {
        "task": {"architecture": "resnet", "loss": "wgan-gp", "latent": 128, "width": 128, "critic_steps": 5},
        "data": _CIFAR,
        "batch": 64,
    },
    "sngan": {
        "task": {
            "architecture": "resnet", "loss": "hinge", "latent": 128, "width": 128, "generator_width": 256,
            "critic_steps": 5,
        },
        "data": _CIFAR,
        "batch": 64,
    },
    "sagan": {
        "task": {"architecture": "sagan", "loss": "hinge", "latent": 128, "width": 64, "classes": 10},
        "data": _CIFAR,
        "batch": 64,
    },
    "game": {"task": {"name": "game"}},
}  # fmt: skip
_BASE = {"nodes": 4, "algorithm": {"name": "dp-oadam"}, "stop": {"steps": 1}, "links": "datacenter"}


@task.command(epilog="Example: [bold]gannet task show wgan-gp-cifar10 --set codec=fp16[/bold]")
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC|NAME",
            help=f"A spec file, a shipped spec, or one of {', '.join(EXAMPLES)} (with default settings, "
            "on four nodes that gossip on a ring). Default: all of these.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field, e.g. --set codec=fp16")
    ] = None,
) -> None:
    """Show parameters, bytes on the wire and FLOPs of a step, without data, training or a GPU."""
    try:
        from gannet.experiment.task_cost import NOTES, cost_of, cost_table

        specs = [
            (f"{title} {arm}".removesuffix(" run"), spec)
            for title, comparison in _comparisons(name, set_ or [])
            for arm, spec in comparison.arms.items()
        ]
        console.print(cost_table({title: (spec, cost_of(spec)) for title, spec in specs}))
    except (SpecError, ValueError, OSError) as error:
        fail(str(error))
    console.print()
    console.print(NOTES, style="dim", markup=False)


def _comparisons(name: str | None, overrides: list[str]) -> list[tuple[str, ComparisonSpec]]:
    if name is None or name in EXAMPLES:
        names = [name] if name else list(EXAMPLES)
        return [(one, resolve({**_BASE, **EXAMPLES[one]}, one, overrides)) for one in names]
    try:
        return [(name, load_spec(name, overrides))]
    except SpecError as error:
        if name in shipped_specs() or "." in name:
            raise
        raise SpecError(f"{error}; and tasks: {', '.join(EXAMPLES)}") from None
