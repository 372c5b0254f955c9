"""Runs a comparison from end to end: every arm and seed, then the scores, then the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from gannet.experiment.checks import as_lines, mistakes_in, show_data
from gannet.experiment.folders import run_folder
from gannet.experiment.progress import LiveDisplay
from gannet.experiment.resume import ALLOW, ResumePlan, changes_since, set_aside
from gannet.experiment.runner import add_scores, begin_comparison, failed_run, run_one
from gannet.experiment.sinks import Display, DisplayTee
from gannet.fabrics.job import Fabric
from gannet.fabrics.kind import FabricSetup
from gannet.fabrics.namespaces import sandbox
from gannet.ledger.files import read_json, read_yaml, validate
from gannet.ledger.full_disk import FULL
from gannet.ledger.origin import check_data
from gannet.ledger.records import Summary, to_json
from gannet.ledger.writer import write_json, write_yaml
from gannet.report import comparison_table, read_comparison, read_run, write_report, write_run_report, write_summary
from gannet.report.summary import conclusion_text
from gannet.scores.comparable import unlike_arms
from gannet.scores.score_run import in_words
from gannet.scores.scorer import AnyScorer, check_wish, scorer_for
from gannet.spec.load import SpecError, explain
from gannet.spec.notes import comparison_notes
from gannet.spec.run_spec import ComparisonSpec, RunSpec
from gannet.spec.score import ScoreSpec
from gannet.trackers.display import Trackers

log = logging.getLogger(__name__)


def execute(
    comparison: ComparisonSpec,
    folder: Path,
    console: Console,
    more_fabrics: Mapping[str, Fabric] | None = None,
    observers: Sequence[Display] = (),
    plan: ResumePlan | None = None,
    trackers: Trackers | None = None,
) -> bool:
    """Train, score and report into `folder`. True: every run finished, and was scored where its spec asks for it.

    `more_fabrics`: by name, those that the caller has opened. `observers` receive what the terminal shows. `plan`:
    the remaining runs of an interrupted comparison. `trackers` receive it as well, and are closed once all is scored.
    """
    runs, terminal = plan.left if plan else comparison.runs(), LiveDisplay(console)
    resumed = plan.resumed if plan else frozenset()
    places = {(spec.arm, spec.seed): run_folder(folder, spec) for spec in runs}
    for root in dict.fromkeys(spec.data.root for spec in runs if spec.data.name == "image-folder"):
        console.print(f"reading every image in {root}", style="dim", markup=False)
    changes = changes_since(plan) if plan else {}
    if plan is not None and changes and not plan.allow_changes:
        raise SpecError(f"{as_lines(changes, runs)}\n{ALLOW}")
    mistakes = mistakes_in(runs, {run: place for run, place in places.items() if place in resumed})
    unlike = unlike_arms(comparison) if plan is None else ""
    if unlike or (mistakes and (plan is None or len(mistakes) == len(runs))):  # a resumed comparison makes the others
        raise SpecError("\n".join(filter(None, (unlike, as_lines(mistakes, runs)))))
    show_data([spec for spec in runs if (spec.arm, spec.seed) not in mistakes], console)
    for note in comparison_notes(comparison):
        console.print(f"note: {note}", style="yellow", markup=False)
    if plan is None:
        begin_comparison(comparison, folder)
    elif plan.longer:
        write_yaml(folder / "spec.yaml", comparison.whole())
    display = DisplayTee(terminal, *observers, *([trackers] if trackers else []))
    ended = [(spec, _summary(run_folder(folder, spec))) for spec in plan.ended] if plan is not None else []
    summaries: list[Summary] = []
    faults = 0
    with ExitStack() as stack:
        fabrics = dict(more_fabrics or {})
        for kind in dict.fromkeys(spec.fabric_kind for spec in runs):
            if kind.name not in fabrics and kind.open is not None:
                here = [spec for spec in runs if spec.fabric == kind.name]
                engines = tuple(dict.fromkeys(spec.engine for spec in here))
                profiles = tuple(profile for spec in here for profile in spec.profiles)
                fabrics[kind.name] = stack.enter_context(kind.open(FabricSetup(folder / "logs", engines, profiles)))
        try:
            for number, spec in enumerate(runs, start=1 + len(ended)):
                display.begin(spec, number, len(ended) + len(runs))
                place = places[spec.arm, spec.seed]
                if plan is not None and place in plan.again:
                    set_aside(folder, place)
                try:
                    if found := mistakes.get((spec.arm, spec.seed)):
                        raise SpecError("; ".join(found))
                    fabric, changed = fabrics[spec.fabric], changes.get((spec.arm, spec.seed))
                    taken = plan is not None and place in plan.taken_up
                    summary = run_one(spec, place, fabric, display, place in resumed, changed, taken)
                except Exception as error:  # it ends this run, and no other
                    if getattr(error, "errno", None) in FULL:  # the user has ended the wait for space
                        raise
                    summary = failed_run(spec, place, error)
                display.end(summary)
                summaries.append(summary)
                if summary.status == "stopped":
                    console.print("stopped: all measurements so far are in the run folder", style="yellow")
                    break
        finally:  # whatever stopped a run, earlier runs are scored
            terminal.close()
            try:
                if summaries or ended:
                    made = [*(spec for spec, _ in ended), *runs[: len(summaries)]]
                    faults = score_all(folder, made, [*(summary for _, summary in ended), *summaries], console)
            finally:
                try:
                    if summaries or ended:
                        report_on(folder, console)
                finally:
                    if trackers is not None:
                        trackers.close()
                    sandbox.own_as_caller(folder)
    statuses = [summary.status for summary in (*(summary for _, summary in ended), *summaries)]
    return all(status == "finished" for status in statuses) and len(summaries) == len(runs) and not faults


def _summary(run: Path) -> Summary:
    return validate(Summary, read_json(run / "summary.json") or {}, run / "summary.json", None)


def score_all(
    folder: Path,
    runs: Sequence[RunSpec],
    summaries: list[Summary],
    console: Console,
    folders: list[Path] | None = None,
) -> int:
    """Score every run's snapshots, after all training; returns the number of runs with a fault in it.

    `folders`: of the runs, by default those in `folder`. A run that cannot be scored says why in its summary, and the
    others are scored.
    """
    places = folders or [run_folder(folder, spec) for spec in runs]
    everything = zip(runs, summaries, places, strict=True)
    wanted = [(s, m, p) for s, m, p in everything if s.score is not None and m.steps]
    scorers: dict[str, AnyScorer] = {}
    faults = 0
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("scoring", total=sum(s.score.points for s, *_ in wanted if s.score))
        for number, (spec, summary, place) in enumerate(wanted):
            assert spec.score is not None
            key = f"{spec.task.name} {spec.data!r} {spec.score!r}" + (
                "" if spec.task.name == "gan" else repr(spec.task)
            )
            before, points = sum(s.score.points for s, *_ in wanted[:number] if s.score), spec.score.points

            def advance(done: int, total: int, before: int = before, points: int = points) -> None:
                progress.update(task, completed=before + points * done / total)

            try:
                check_data(place, spec)
                if key not in scorers:
                    wish = spec.score
                    scorers[key] = scorer_for(
                        spec.task, spec.data, wish.samples, wish.device, wish.features, wish.metrics
                    )
                fault = add_scores(spec, place, summary, scorers[key], advance)
            except Exception as error:
                log.info("%s: scoring failed", place, exc_info=True)
                fault = in_words(error)
                write_json(place / "summary.json", to_json(summary.model_copy(update={"score_fault": fault})))
            if fault:
                faults += 1
                console.print(
                    f"{spec.title}, seed {spec.seed}, could not be scored: {fault}", style="yellow", markup=False
                )
    return faults


def report_on(folder: Path, console: Console) -> Path:
    """Write the report of a comparison's or a run's folder and show its table; returns the report's path."""
    if (folder / "steps.jsonl").exists():
        run = read_run(folder)
        for text in run.summary.score_shortfalls:
            console.print(f"few images for a score: {text}", style="yellow", markup=False)
        return write_run_report(run)
    comparison = read_comparison(folder)
    write_summary(comparison)
    console.print(comparison_table(comparison))
    console.print(conclusion_text(comparison))
    path = write_report(comparison)
    console.print(f"\nreport: {path}", markup=False)
    return path


def score_again(folder: Path, console: Console, wishes: Mapping[str, Any] | None = None) -> int:
    """Score the snapshots of every run in the folder of a comparison or of a run again.

    wishes: fields of `score` that replace those of the runs' specs, which stay as they are: each line of scores.jsonl
    names its settings. A run whose spec has no score gets the defaults. Returns as `score_all`; ValueError for what
    cannot be scored so.
    """
    found = sorted([*folder.glob("summary.json"), *folder.glob("*/seed-*/summary.json")])
    if not found:
        raise FileNotFoundError(
            f"{folder}: no run with a summary.json to score again; give the folder of a comparison, or of a run in "
            "it (<folder>/<arm>/seed-<n>)"
        )
    runs, summaries = [], []
    for path in found:
        file = path.parent / "spec.yaml"
        spec = validate(RunSpec, read_yaml(file)[1], file, None)
        if wishes is not None:
            spec = spec.model_copy(update={"score": wished(spec.score or ScoreSpec(), wishes)})
        if spec.score is not None:
            check_wish(spec.task, spec.data, spec.score)
            spec.check_node_models()
        runs.append(spec)
        summaries.append(_summary(path.parent))
    return score_all(folder, runs, summaries, console, [path.parent for path in found])


def wished(score: ScoreSpec, wishes: Mapping[str, Any]) -> ScoreSpec:
    """`score` with some fields replaced. Raises SpecError with every mistake."""
    try:
        return ScoreSpec.model_validate(score.model_dump() | dict(wishes))
    except ValidationError as error:
        lines = [line.partition(":") for line in explain(error)]
        raise SpecError("\n".join(f"--{name.replace('_', '-')}:{rest}" for name, _, rest in lines)) from None
