"""A run that nodes still train in, and that its controller left behind: what its folder tells of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gannet.experiment.exploded import Exploded
from gannet.experiment.resume import ResumePlan, comparison_in
from gannet.fabrics.job import ISLANDS, LEFT_EARLY, NODE_JOINED, NODE_LOST, NODE_RETURNED, Job
from gannet.fabrics.recovery.diary import read_past
from gannet.fabrics.recovery.past import Recovery
from gannet.ledger.files import lines, read_json, validate
from gannet.ledger.records import Step
from gannet.ledger.snapshots import step_of
from gannet.netem.measure.certificate import Certificate
from gannet.node.training.meter import StepStats

DIARY = "controller.jsonl"


def left_behind(folders: Iterable[Path], grace_s: float, cluster: str) -> ResumePlan | None:
    """The comparison in one of these folders that this cluster's nodes still train in; None: there is none.

    Its runs that ended are left as they are; the one that trains is taken up, and those that have not begun follow.
    """
    for folder in folders:
        for diary in sorted(folder.glob(f"*/seed-*/{DIARY}")):
            with suppress(OSError, ValueError):
                quiet_s = time.time() - (diary.parent / "links.jsonl").stat().st_mtime
                past = read_past(diary)
                if past is None or past.cluster != cluster or quiet_s > grace_s or _ended(diary.parent):
                    continue
                comparison, root = comparison_in(folder)
                left = [spec for spec in comparison.runs() if not _ended(root / spec.arm / f"seed-{spec.seed}")]
                trains = frozenset({diary.parent})
                again = frozenset(
                    place
                    for spec in left
                    if (place := root / spec.arm / f"seed-{spec.seed}").exists() and place != diary.parent
                )
                return ResumePlan(comparison, root, tuple(left), frozenset(), again, taken_up=trains)
    return None


def _ended(run: Path) -> bool:
    return (run / "summary.json").exists()


def taken_up(job: Job, run: Path) -> Job:
    """`job` as the run in that folder, under its old name. Raises ValueError: why it cannot be taken up."""
    past = read_past(run / DIARY)
    if past is None:
        raise ValueError("the controller was away, and training had not begun")
    islands: list[object] = []
    missing = set(job.join_at_s)
    for _, line in lines(run / "links.jsonl", [], cut_allowed=True):
        past.away_s = max(past.away_s, line.get("t_s", 0.0))
        match line.get("event"):
            case event if event == NODE_LOST:
                past.lost[line["node"]] = line["reason"]
            case event if event in (NODE_RETURNED, NODE_JOINED):
                past.lost.pop(line["node"], None)
                missing.discard(line["node"])
            case event if event == ISLANDS:
                islands = line["islands"]
            case event if event == LEFT_EARLY:
                raise ValueError("the controller was away while nodes left in the middle of an exchange")
    comes_back = job.return_after_s is not None or job.on_not_finite == "reset"
    if past.lost and comes_back:
        raise ValueError(f"the controller was away while a node was to come back: {sorted(past.lost)}")
    if missing:
        raise ValueError(f"the controller was away while nodes were to join: {sorted(missing)}")
    if len(islands) > 1:
        raise ValueError("the controller was away while nodes trained without each other, since links were cut")
    for step in steps_in(run):
        past.steps[step.node], past.t_s[step.node] = step.step, step.t_s
    certificate = read_json(run / "certificate.json")
    if certificate is None:
        raise ValueError("the controller was away, and there is no certificate of the links")
    past.certificate = Certificate.from_json(certificate)
    config = job.config.model_copy(update={"run": past.run})
    return replace(job, config=config, join_at_s={}, recovery=Recovery(run / DIARY, past=past))


def steps_in(run: Path) -> list[Step]:
    """The recorded steps of a run."""
    path = run / "steps.jsonl"
    return [validate(Step, line, path, number) for number, line in lines(path, [], cut_allowed=True)]


def look_again(exploded: Exploded, run: Path) -> None:
    """Have `exploded` see the steps and snapshots that are recorded."""
    from safetensors.torch import load_file

    for step in steps_in(run):
        exploded.step(step.node, StepStats(**{k: v for k, v in vars(step).items() if k != "node"}))
    for folder in sorted((run / "snapshots").glob("step-*"), key=step_of):
        for path in sorted(folder.glob("node-*.safetensors")):
            exploded.snapshot(int(path.stem.removeprefix("node-")), step_of(folder), 0.0, 0, load_file(path)["x"])
