"""`gannet fault-search`: seeded schedules of faults on the virtual fabric, held against what must always be true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


from gannet.console import Terminal, fail

_MOST_TOLD = 10  # failing seeds of which the whole schedule is printed


def add_fault_search(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        name="fault-search",
        epilog="Examples: [bold]gannet fault-search --count 500[/bold], [bold]gannet fault-search --seed 17[/bold]",
    )(fault_search)


def fault_search(
    seed: Annotated[int | None, typer.Option(min=0, help="Only this schedule, printed whole.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of schedules.")] = 10_000,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    method: Annotated[str | None, typer.Option(help="Only schedules of this method; default: all in turn.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Schedules that run at a time, each in a process.")] = 1,
) -> None:
    """Search for schedules of faults that break a run: on the virtual fabric, reproducible by their seed.

    Exit status: 0 if every schedule kept all invariants, 1 otherwise.
    """
    from gannet.fault_search import tables
    from gannet.fault_search.schedule import draw
    from gannet.fault_search.search import Totals, search
    from gannet.fault_search.variants import methods

    if method is not None and method not in methods():
        fail(f"no schedules of method {method!r}: choose one of {', '.join(methods())}")
    console, totals = Terminal(), Totals()
    seeds = range(first, first + count) if seed is None else [seed]
    if seed is not None:
        _print(console, draw(seed, method).lines())
    with _progress(console) as progress:
        task = progress.add_task("schedules", total=len(seeds), failing=0)
        for found in search(seeds, method, min(jobs, len(seeds))):
            totals.add(found)
            progress.update(task, advance=1, failing=len(totals.failing))
    if seed is None:
        console.print(tables.by_method(totals))
        console.print(tables.by_kind(totals))
    console.print(tables.summary(totals), markup=False, soft_wrap=True)
    for failing in totals.failing[:_MOST_TOLD]:
        console.print(f"\n{tables.command(failing, method)}", style="red", markup=False, soft_wrap=True)
        _print(console, tables.whole(failing, method))
    if len(totals.failing) > _MOST_TOLD:
        others = " ".join(str(failing.seed) for failing in totals.failing[_MOST_TOLD:])
        console.print(f"\nother failing seeds: {others}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if totals.failing else 0)


def _progress(console: Terminal) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failing]} failing"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _print(console: Terminal, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
