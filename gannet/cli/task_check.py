"""`gannet task check`: finds the common mistakes in a user's task before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gannet.cli.findings import print_findings
from gannet.cli.own_files import specs_with
from gannet.console import Terminal, fail
from gannet.node.data.config import DataConfig
from gannet.node.plugins import USER_ERRORS, PluginError, told
from gannet.node.tasks.config import PythonTaskConfig, TaskSetting
from gannet.spec.load import SpecError

if TYPE_CHECKING:
    from gannet.node.plugins import Finding

_WORLD, _SEED = 2, 1


def add_check(app: typer.Typer) -> None:
    """Give `gannet task` this command."""
    app.command(epilog="Example: [bold]gannet task check my_task.py --settings width=24[/bold]")(check)


def check(
    file: Annotated[
        Path, typer.Argument(help="The .py file of a task, or the .yaml of a spec to check the tasks of its arms.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--settings", metavar="KEY=VALUE", help="A setting of the task, e.g. width=24."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Size of a minibatch; default: 16, or that of the spec.")
    ] = None,
) -> None:
    """Check a task for common mistakes in shapes, random numbers, state, gradients and scores.

    Exit status: 0 if none was found, 1 otherwise.
    """
    console = Terminal()
    try:
        found = 0
        for title, task, data, size in _tasks(file, settings or [], batch):
            found += print_findings(console, title, findings_of(task, data, size))
    except (SpecError, ValueError, FileNotFoundError) as error:
        fail(str(error), 1)
    raise typer.Exit(1 if found else 0)


def _tasks(file: Path, settings: Sequence[str], batch: int | None) -> list[tuple[str, TaskSetting, DataConfig, int]]:
    """(title, task, data, batch) of each different task."""
    arms = specs_with(file, "task", "a", settings, {"algorithm": {"name": "local"}})
    seen: list[tuple[str, TaskSetting, DataConfig, int]] = []
    for name, spec in arms.items():
        entry = (spec.task, spec.data, batch or spec.batch)
        if all(entry != other[1:] for other in seen):
            title = getattr(spec.task, "title", f"task {spec.task.name}")
            seen.append((title if len(arms) == 1 else f"{title} (arm {name})", *entry))
    return seen


def findings_of(task: TaskSetting, data: DataConfig, batch: int) -> list[Finding]:
    """Mistakes found in a spec's task. Raises PluginError where it cannot be built at all."""
    import torch

    from gannet.node.data.datasets import load_shard
    from gannet.node.tasks import build_sampler, build_task, needs_data
    from gannet.node.tasks.base import AnyTask
    from gannet.node.tasks.custom.check import check as find

    torch.set_num_threads(1)
    shards = [load_shard(data, rank, _WORLD, _SEED) if needs_data(task) else None for rank in range(_WORLD)]

    def make(rank: int, training: bool = True) -> AnyTask:
        if training:
            return build_task(task, shards[rank], rank, _WORLD, _SEED, batch)
        return build_sampler(task, data)

    try:
        return find(make)
    except PluginError:
        raise
    except USER_ERRORS as error:
        if not isinstance(task, PythonTaskConfig):
            raise
        raise PluginError(told(error, task.title)) from error
