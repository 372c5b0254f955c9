"""`gannet runs`: what is in the folder of runs; `gannet tables` and `gannet log`: what they recorded, for other
programs. `gannet init`: a new spec."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from gannet.cli.running import console, errors_as_messages, tracker_kinds
from gannet.console import Terminal, fail, plain_table
from gannet.ledger.overview import ResultsFolder, RunOverview, results_below
from gannet.ledger.reader import read_comparison, read_run
from gannet.spec.run_spec import is_folder_name

TEMPLATE = files("gannet.spec") / "template.yaml"


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that your runs are in, or one of them.")] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each run, with every seed.")
    ] = False,
) -> None:
    """List runs: how each arm ended, its score, and whether its figures can be trusted."""
    with errors_as_messages():
        found = list(results_below(folder))
    if as_json:
        for results in found:
            for run in results.runs:
                written = None if run.written is None else run.written.isoformat(timespec="seconds")
                line = {"name": results.name, **asdict(run), "written": written}
                typer.echo(json.dumps(line, default=str))
        return
    if not found:
        console.print(f"{folder}: no runs in it", markup=False, soft_wrap=True)
        return
    table = plain_table("folder", "arm", "state", "steps", "seconds", "score", "trusted", "written", no_wrap=True)
    measures: dict[str, list[str]] = {}
    for results in found:
        for row in _rows(results):
            table.add_row(*row)
        for name in dict.fromkeys(each.score_name for each in results.runs if each.score is not None):
            measures.setdefault(name, []).append(results.folder.name)
    # Names of folders are to be copied: they may make the table wider than the terminal, never be cut short.
    wanted = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    Terminal(width=max(console.width, wanted)).print(table)
    for each in (run for results in found for run in results.runs if run.status in ("failed", "unreadable")):
        console.print(f"{each.folder}: {each.status}: {each.reason}", markup=False, soft_wrap=True)
    for name, folders in measures.items():
        where = f" in {', '.join(folders)}" if len(measures) > 1 else ""
        console.print(f"score{where}: {name}", markup=False, soft_wrap=True)


def _rows(results: ResultsFolder) -> list[tuple[str, ...]]:
    """A row for each arm; the folder stands in its first."""
    arms: dict[str, list[RunOverview]] = {}
    for run in results.runs:
        arms.setdefault(run.arm, []).append(run)
    if not arms:
        return [(results.folder.name, "–", "not begun", *["–"] * 5)]
    rows: list[tuple[str, ...]] = []
    for number, (arm, runs) in enumerate(arms.items()):
        written = max((each.written for each in runs if each.written is not None), default=None)
        rows.append(
            (
                results.folder.name if number == 0 else "",
                arm or "–",
                _state(runs),
                _span([each.steps for each in runs], ",.0f"),
                _span([each.seconds for each in runs], ",.1f"),
                _score(runs),
                _trust(runs),
                _ago(written),
            )
        )
    return rows


def _state(runs: list[RunOverview]) -> str:
    counts = Counter(each.status for each in runs)
    if len(runs) == 1:
        return runs[0].status
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _score(runs: list[RunOverview]) -> str:
    found = [each.score for each in runs if each.score is not None]
    return _span(found, ".4g")


def _trust(runs: list[RunOverview]) -> str:
    ended = [each for each in runs if each.status in ("finished", "failed", "stopped")]
    trusted = sum(not each.distrust for each in ended)
    if not ended:
        return "–"
    if len(ended) > 1 and 0 < trusted < len(ended):
        return f"{trusted} of {len(ended)}"
    return "yes" if trusted else "no"


def _span(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    least, most = format(min(known), form), format(max(known), form)
    return least if least == most else f"{least} to {most}"


def _ago(written: datetime | None) -> str:
    if written is None:
        return "–"
    seconds = max(0.0, (datetime.now(UTC) - written).total_seconds())
    size, unit = next((s, u) for s, u in ((86400, "d"), (3600, "h"), (60, "min"), (0, "s")) if seconds >= s)
    return f"{seconds / (size or 1):.0f} {unit} ago"


def init(
    file: Annotated[Path, typer.Argument(help="The spec to write.")] = Path("gannet.yaml"),
) -> None:
    """Write a spec to begin with, with a comment on each of its fields and settings to try."""
    text = TEMPLATE.read_text(encoding="utf-8")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text.replace("name: first", f"name: {file.stem}", 1) if is_folder_name(file.stem) else text)
    except FileExistsError:
        fail(f"{file} exists: give another file, or remove it")
    except OSError as error:
        fail(f"{file}: cannot be written: {error.strerror}")
    console.print(
        f"{file}: edit it; `gannet compare {file} --dry-run` says what it would do", markup=False, soft_wrap=True
    )


def tables(
    folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a single run.")],
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("tables"),
    csv: Annotated[bool, typer.Option("--csv", help="CSV instead of Parquet.")] = False,
) -> None:
    """Write what was recorded as tables for pandas and others: runs, steps, scores, links and events."""
    with errors_as_messages():
        from gannet.ledger.tables import write_tables

        single = (folder / "steps.jsonl").exists()
        for file in write_tables(
            read_run(folder) if single else read_comparison(folder), to, "csv" if csv else "parquet"
        ):
            console.print(str(file), markup=False, soft_wrap=True)


def log(
    folder: Annotated[Path, typer.Argument(help="The folder of a comparison or of a single run.")],
    to: Annotated[list[str], typer.Option(help="tensorboard, wandb or mlflow; may be given repeatedly.")],
) -> None:
    """Log runs that have ended to an experiment tracker; `--log` of run and compare does it while they train."""
    kinds = tracker_kinds(to, "--to")
    with errors_as_messages():
        from gannet.trackers.display import log_folder

        single = (folder / "steps.jsonl").exists()
        runs = (read_run(folder),) if single else read_comparison(folder).runs
        done = log_folder(runs, kinds, folder, lambda text: console.print(text, markup=False, soft_wrap=True))
    raise typer.Exit(0 if done else 1)


def add_run_folders(app: typer.Typer) -> None:
    """Put the commands into `app`."""
    app.command(epilog="Example: [bold]gannet init lte.yaml[/bold], then [bold]gannet compare lte.yaml[/bold]")(init)
    app.command(epilog="Example: [bold]gannet runs[/bold], or [bold]gannet runs --json | jq .score[/bold]")(runs)
    app.command(epilog="Example: [bold]gannet log runs/demo-20260102-120000 --to tensorboard[/bold]")(log)
    app.command(epilog="Example: [bold]gannet tables runs/demo-20260102-120000 --to demo-tables[/bold]")(tables)
