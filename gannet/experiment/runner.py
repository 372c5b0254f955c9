"""Runs specs: from a RunSpec to a job for a fabric, and from its outcome to a run folder with a summary."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from gannet.experiment.exploded import Exploded
from gannet.experiment.job import job_of
from gannet.experiment.resume import resumed_job
from gannet.experiment.sinks import Display, ScoreGoal, Tee
from gannet.experiment.summary import environment, summarise_run
from gannet.experiment.take_up import DIARY, look_again, taken_up
from gannet.fabrics.job import Fabric, Outcome, Sink
from gannet.fabrics.recovery.past import Recovery
from gannet.ledger.data_fingerprint import data_of, labels_held
from gannet.ledger.files import lines
from gannet.ledger.origin import origin_of
from gannet.ledger.records import Shards, Summary, to_json
from gannet.ledger.writer import Ledger, write_json, write_yaml
from gannet.node.log_labels import label
from gannet.scores.score_run import in_words, score_run
from gannet.scores.scorer import AnyScorer
from gannet.spec.load import SpecError
from gannet.spec.run_spec import ComparisonSpec, RunSpec
from gannet.trained.start import recorded_start

log = logging.getLogger(__name__)


def run_one(
    spec: RunSpec,
    folder: Path,
    fabric: Fabric,
    display: Display | None = None,
    resume: bool = False,
    changes: Sequence[str] | None = None,
    take_up: bool = False,
) -> Summary:
    """Train one run into `folder`; returns its summary, which is also in summary.json. Scoring comes after.

    `resume`: resume the run in `folder` from its latest checkpoint. Raises ValueError when that checkpoint belongs to
    another run. `changes`: which data and versions are not as in the runs before (see gannet.ledger.origin), reasons
    to distrust the run; None: any change since its checkpoint is a ValueError. `take_up`: nodes still train in the
    run in `folder`.
    """
    whole, data, origin = job_of(spec), data_of(spec), origin_of(spec)
    whole = replace(whole, config=whole.config.model_copy(update={"origin": origin}))
    whole = replace(whole, recovery=Recovery(folder / DIARY))
    job = resumed_job(whole, folder, allow_changes=changes is not None) if resume else whole
    job = taken_up(job, folder) if take_up else job
    if job.resumed is not None and changes:
        job = replace(job, resumed=replace(job.resumed, changes=tuple(changes)))
    if display is not None:
        display.named(job.config.run)
        if job.resumed is not None:
            display.phase(f"resuming after step {job.resumed.step}, {job.begin_s:.1f} s of training")
    for why in job.resumed.passed_over if job.resumed is not None else ():
        log.warning("a set of checkpoints is passed over: %s", why)
    label(job.config.run)
    ledger = Ledger(folder, spec, job.resumed, take_up)
    known = {"origin": origin, **recorded_start(spec)}
    ledger.write_json("environment.json", environment(spec.fabric, data, known).facts())
    if (held := labels_held(spec)) is not None:
        ledger.write_json("shards.json", to_json(Shards(labels_by_node=tuple(held))))
    exploded = Exploded(spec, job)
    goal = ScoreGoal(spec) if spec.stop.score is not None else None
    if take_up:
        look_again(exploded, goal, job, folder)
    sinks: list[Sink] = [ledger, exploded, *([display] if display else []), *([goal] if goal else [])]
    try:
        outcome = fabric(job, Tee(*sinks))
    except KeyboardInterrupt:
        outcome = Outcome("stopped", "interrupted by the user")
    finally:
        ledger.close()
        label()
    if outcome.certificate is not None:
        ledger.certificate(outcome.certificate)
    facts = environment(spec.fabric, data, {**known, **outcome.environment}).facts()
    ledger.write_json("environment.json", facts)
    changed = changes or () if job.resumed is None else ()
    summary = summarise_run(spec, whole, ledger, outcome, changed, exploded.reasons)
    ledger.write_json("summary.json", to_json(summary))
    (folder / DIARY).unlink(missing_ok=True)
    return summary


def failed_run(spec: RunSpec, folder: Path, error: Exception) -> Summary:
    """The summary of a run that `error` ended, which is also in its folder, with the traceback in error.txt."""
    reason = str(error) if isinstance(error, SpecError) else in_words(error)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    if not (folder / "spec.yaml").exists():
        write_yaml(folder / "spec.yaml", spec.model_dump(mode="json"))
    made = [(line["step"], line["t_s"]) for _, line in lines(folder / "steps.jsonl", [], cut_allowed=True)]
    summary = Summary(
        arm=spec.arm,
        label=spec.title,
        seed=spec.seed,
        status="failed",
        reason=reason,
        nodes=spec.nodes,
        algorithm=spec.algorithm.title,
        codec=str(spec.codec),
        links=spec.links.describe(),
        steps=max((step for step, _ in made), default=0),
        seconds=max((t_s for _, t_s in made), default=0.0),
        reasons=(f"the run failed: {reason}",),
    )
    write_json(folder / "summary.json", to_json(summary))
    (folder / DIARY).unlink(missing_ok=True)
    return summary


def add_scores(
    spec: RunSpec,
    folder: Path,
    summary: Summary,
    scorer: AnyScorer,
    progress: Callable[[int, int], None],
) -> str:
    """Score the run's snapshots, off the clock, and add the figures to its summary; returns its `score_fault`."""
    if spec.score is None or not any((folder / "snapshots").iterdir()):
        return ""
    faults: list[str] = []
    player = spec.algorithm.traits.worker_player
    wish = spec.score
    scored = score_run(folder, spec.task, scorer, wish.points, progress, player, faults, wish.node_models)
    fault = f"{len(faults)} of its snapshots: {faults[0]}" if faults else ""
    if scored:
        found = {
            "final_score": scored[-1]["score"],
            "best_score": min((s for line in scored if (s := line["score"]) is not None), default=None),
            "score_name": scored[-1]["score_name"],
            "score_shortfalls": tuple(scorer.shortfalls),
            "score_fault": fault,
        }
        write_json(folder / "summary.json", to_json(summary.model_copy(update=found)))
    return fault


def begin_comparison(comparison: ComparisonSpec, folder: Path) -> None:
    """Make the comparison's own folder, with every arm's complete spec.

    Raises FileExistsError where another comparison has begun in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "logs").mkdir()  # one command alone can make it
    except FileExistsError:
        raise FileExistsError(f"{folder}: another command has begun in it: choose another folder") from None
    write_yaml(folder / "spec.yaml", comparison.whole())
