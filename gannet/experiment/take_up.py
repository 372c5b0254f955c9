"""A run that nodes still train in, and that its controller left behind: what its folder tells of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gannet.experiment.exploded import Exploded
from gannet.experiment.folders import run_folder
from gannet.experiment.resume import ResumePlan, comparison_in, status_of
from gannet.experiment.sinks import ScoreGoal
from gannet.fabrics.job import ISLANDS, LEFT_EARLY, NODE_JOINED, NODE_LOST, NODE_RETURNED, Job
from gannet.fabrics.recovery.diary import read_past
from gannet.fabrics.recovery.mark import MARK, is_left
from gannet.fabrics.recovery.past import Recovery
from gannet.ledger.files import lines, read_json, validate
from gannet.ledger.records import Step
from gannet.ledger.snapshots import step_of
from gannet.netem.measure.certificate import Certificate
from gannet.node.training.meter import StepStats

DIARY = "controller.jsonl"
_JUDGED = 3  # of the snapshots' steps, the last ones


def left_behind(folders: Iterable[Path], grace_s: float, cluster: str) -> ResumePlan | None:
    """The comparison in one of these folders that a controller of this cluster was killed in; None: there is none.

    Its runs that ended are left as they are; the one that trains is taken up, one that had not begun to train begins
    again, and the others follow. After `grace_s` without a sign of that controller its nodes are gone, and it is no
    longer taken up. Raises FolderBusy where the controller lives.
    """
    for folder in folders:
        if not is_left(folder, cluster) or time.time() - _last_sign_s(folder) > grace_s:
            continue
        try:
            comparison, root = comparison_in(folder)
        except (OSError, ValueError):
            continue  # it was killed before it had written the spec
        runs = [(spec, place := run_folder(root, spec), status_of(place)) for spec in comparison.runs()]
        left = [(spec, place) for spec, place, status in runs if not status]
        if any(status == "stopped" for *_, status in runs):
            left = []  # a run that a user stopped was the last
        train = frozenset(place for _, place in left if _trains(place))
        again = frozenset(place for _, place in left if place.exists()) - train
        return ResumePlan(
            comparison,
            root,
            tuple(spec for spec, _ in left),
            frozenset(),
            again,
            taken_up=train,
            ended=tuple(spec for spec, _, status in runs if status),
        )
    return None


def _last_sign_s(folder: Path) -> float:
    """When something was last written there, in seconds since the epoch."""
    paths = [folder / MARK, *folder.glob("*/seed-*/*")]
    return max(path.stat(follow_symlinks=False).st_mtime for path in paths)


def _trains(run: Path) -> bool:
    """Whether training has begun in a run's folder, or nobody can tell."""
    try:
        return read_past(run / DIARY) is not None
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # `taken_up` says what is wrong, and nothing is trained a second time


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
        past.away_s = max(past.away_s, step.t_s)
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


def look_again(exploded: Exploded, goal: ScoreGoal | None, job: Job, run: Path) -> None:
    """Have them see what is recorded. Where it reaches the goal, the run is to end."""
    from safetensors.torch import load_file

    assert job.recovery is not None and job.recovery.past is not None
    for step in steps_in(run):
        exploded.step(step.node, StepStats(**{k: v for k, v in vars(step).items() if k != "node"}))
    for _, line in lines(run / "links.jsonl", [], cut_allowed=True):
        if goal is not None:
            goal.links(line)
    folders = sorted((run / "snapshots").glob("step-*"), key=step_of)
    for folder in folders:
        for path in sorted(folder.glob("node-*.safetensors")):
            rank, x = int(path.stem.removeprefix("node-")), load_file(path)["x"]
            exploded.snapshot(rank, step_of(folder), 0.0, 0, x)
            # Earlier ones have been judged: nodes are some steps apart, and a score takes a while.
            if goal is not None and folder in folders[-_JUDGED:]:
                job.recovery.past.stopping |= goal.snapshot(rank, step_of(folder), 0.0, 0, x)
