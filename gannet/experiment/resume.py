"""`gannet resume`: the remaining part of an interrupted run or comparison, and the step at which each run resumes.

Training resumes from the newest step of which all nodes have a checkpoint. Records of later steps are dropped from
the run folder (see Ledger): the same steps are made again, with the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gannet.experiment.folders import run_folder
from gannet.fabrics.job import Job, Resumed
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.ledger.files import read_json, read_yaml
from gannet.netem.regular import check_regular
from gannet.spec.load import SpecError, explain, load_spec, override_pairs
from gannet.spec.run_spec import ComparisonSpec, RunSpec, StopSpec

ALLOW = "resume with what was there, or with --allow-changes, which the report says of the run"
_UNRECORDED = {"data and versions": "not recorded"}  # by an older version


@dataclass(frozen=True)
class ResumePlan:
    """The remaining runs of a comparison in `folder`.

    `resumed` are resumed; `again` have no checkpoint and begin again; the others have not begun. `longer`: the
    comparison has another end than its folder says. `taken_up`: nodes still train in it (gannet.experiment.take_up).
    `ended`: have yet to be scored.
    """

    comparison: ComparisonSpec
    folder: Path
    left: tuple[RunSpec, ...]
    resumed: frozenset[Path]
    again: frozenset[Path] = frozenset()
    allow_changes: bool = False
    longer: bool = False
    taken_up: frozenset[Path] = frozenset()
    ended: tuple[RunSpec, ...] = ()


def resume_plan(folder: Path, allow_changes: bool = False, stop: Sequence[str] = ()) -> ResumePlan:
    """The plan for a comparison's or a run's folder; torch is not imported. ValueError: why it cannot resume.

    `stop`: a new end, such as "stop.steps=90"; runs that finished before it resume too.
    """
    comparison, root = comparison_in(folder.absolute())
    if stop:
        if root != folder.absolute():
            raise ValueError(f"--set: the runs of a comparison end alike; give its folder, {root}")
        comparison = _with_end(comparison, stop)
    left: list[RunSpec] = []
    resumed: set[Path] = set()
    again: set[Path] = set()
    for spec in comparison.runs():
        place = run_folder(root, spec)
        if status_of(place) == "finished":
            if not stop or _reached(place, spec.stop):
                continue
            _newest(place, spec.nodes)  # an error: what has finished is not made again from its start
        left.append(spec)
        if whole := CheckpointFolder(place, spec.nodes).whole():
            if stop and spec.stop.steps is not None and spec.stop.steps <= whole[-1]:
                raise ValueError(f"--set: {place} has come to step {whole[-1]} already; give a later end")
            resumed.add(place)
        elif place.exists():
            if (folder / "steps.jsonl").exists() and (place / "steps.jsonl").stat().st_size:
                _newest(place, spec.nodes)  # the one run that was asked for has steps and no checkpoint: an error
            again.add(place)
    if not left:
        raise ValueError(
            f"{folder}: nothing to resume, every run has "
            + (
                f"reached {', '.join(stop)}"
                if stop
                else "finished; to continue, give a later end: --set stop.steps=…"
            )
        )
    return ResumePlan(comparison, root, tuple(left), frozenset(resumed), frozenset(again), allow_changes, bool(stop))


def changes_since(plan: ResumePlan) -> dict[tuple[str, int], tuple[str, ...]]:
    """By (arm, seed) of the remaining runs, the data and versions that are not those of before.

    Before: in the run's own checkpoint, and in the finished runs that it will be compared with.
    """
    from gannet.ledger.origin import comparable_origin, differences, origin_of, recorded_origin
    from gannet.node.training.checkpoint import Checkpoint, CheckpointError

    def place(spec: RunSpec) -> Path:
        return run_folder(plan.folder, spec)

    done = [(spec, recorded_origin(place(spec))) for spec in plan.comparison.runs() if spec not in plan.left]
    found = {}
    for spec in plan.left:
        now = origin_of(spec)
        changes: list[str] = []
        for other, then in done:
            changes += differences(comparable_origin(then, other, spec), now)
        if place(spec) in plan.resumed:
            kept = CheckpointFolder(place(spec), spec.nodes)
            for step in reversed(kept.whole()):
                with suppress(CheckpointError, OSError):  # if no set is whole, that is a mistake of that run alone
                    path = check_regular(kept.path(step, 0))
                    owner = Checkpoint.unpack(path.read_bytes(), str(path)).owner
                    changes += differences(owner.origin or _UNRECORDED, now)
                    break
        if changes:
            found[spec.arm, spec.seed] = tuple(dict.fromkeys(changes))
    return found


def set_aside(folder: Path, run: Path) -> Path:
    """Move the folder of a run that begins again, so that it is not lost: to set-aside/<arm>/seed-<s>-<n>."""
    place = folder / "set-aside" / run.parent.name
    place.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(1)
    return run.rename(next(to for n in numbers if not (to := place / f"{run.name}-{n}").exists()))


def resumed_job(job: Job, run: Path, allow_changes: bool = False) -> Job:
    """`job` from the newest set of checkpoints in the run's folder that is whole, under the run's old name.

    A set with a damaged file is passed over. Raises CheckpointError where no set is whole, for checkpoints of another
    run or of a later format, and unless `allow_changes` where `job.config.origin`, data and versions, is not that of
    the checkpoints.
    """
    name, resumed = _newest_good(job, run, allow_changes)
    links, changes = job.links_at(resumed.begin_s)
    return replace(
        job,
        config=job.config.model_copy(update={"run": name}),
        links=links,
        changes=changes,
        resumed=resumed,
        join_at_s={},  # checkpoints are kept only once all nodes are there
    )


def _newest_good(job: Job, run: Path, allow_changes: bool) -> tuple[str, Resumed]:
    """(the run's old name, where it resumes)."""
    from gannet.node.training.checkpoint import CheckpointDamaged

    _newest(run, job.world)  # raises where there is none
    damaged: list[CheckpointDamaged] = []
    for step in reversed(CheckpointFolder(run, job.world).whole()):
        try:
            name, found = _read_set(job, run, step, allow_changes)
        except CheckpointDamaged as error:
            damaged.append(error)
        else:
            return name, replace(found, passed_over=tuple(map(str, damaged)))
    raise CheckpointDamaged(f"{damaged[0]}; and no earlier step has a whole set of checkpoints, so it cannot resume")


def _read_set(job: Job, run: Path, step: int, allow_changes: bool) -> tuple[str, Resumed]:
    """All nodes' checkpoints of a step. Raises as `resumed_job`, and CheckpointDamaged."""
    from gannet.ledger.origin import differences
    from gannet.node.training.checkpoint import Checkpoint, CheckpointDamaged, CheckpointError, Owner

    kept, states, clocks, name = CheckpointFolder(run, job.world), [], [], ""
    changes: tuple[str, ...] = ()
    for rank in range(job.world):
        path = kept.path(step, rank)
        try:
            data = check_regular(path).read_bytes()
        except OSError as error:
            raise CheckpointDamaged(f"{path}: {error.strerror}") from None
        found = Checkpoint.unpack(data, str(path))
        if (found.owner.rank, found.step) != (rank, step):
            raise CheckpointDamaged(
                f"{path}: of node {found.owner.rank} at step {found.step}, not of node {rank} at step {step}"
            )
        name = name or found.owner.run
        mine = Owner.of(job.config.model_copy(update={"run": name}), rank, job.world)
        mine.check(found.owner, str(path))
        if mine.origin:
            changes = changes or differences(found.owner.origin or _UNRECORDED, mine.origin)
        if changes and not allow_changes:
            raise CheckpointError(f"{path}: {'; '.join(changes)}; {ALLOW}")
        states.append(data)
        clocks.append(found.t_s)
    return name, Resumed(step, tuple(clocks), tuple(states), changes)


def comparison_in(folder: Path) -> tuple[ComparisonSpec, Path]:
    """(the comparison, the folder that contains the runs' folders)."""
    path = folder / "spec.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no spec.yaml; give the folder of a run or a comparison, runs/<name>-<time>"
        )
    if not (folder / "steps.jsonl").exists():
        return load_spec(path), folder
    try:
        spec = RunSpec.model_validate(read_yaml(path)[1])
    except ValidationError as error:
        raise SpecError("\n".join(f"{path}: {line}" for line in explain(error))) from None
    if folder.parts[-2:] != (spec.arm, f"seed-{spec.seed}"):
        raise ValueError(f"{folder}: a run is resumed where it was made, in <folder>/{spec.arm}/seed-{spec.seed}")
    return ComparisonSpec(name=spec.name, seeds=(spec.seed,), arms={spec.arm: spec}), folder.parents[1]


def _with_end(comparison: ComparisonSpec, sets: Sequence[str]) -> ComparisonSpec:
    """The comparison with other `stop` settings for all arms. Raises ValueError for any other setting."""
    fields: dict[str, Any] = {}
    for key, value in override_pairs(sets):
        section, _, name = key.partition(".")
        if section != "stop" or name not in StopSpec.model_fields:
            raise ValueError(
                f"--set {key}: a run resumes as it began; only its end can be set: "
                f"{', '.join(f'stop.{field}' for field in StopSpec.model_fields)}"
            )
        fields[name] = value
    try:
        arms = {
            name: arm.model_copy(update={"stop": StopSpec.model_validate({**arm.stop.model_dump(), **fields})})
            for name, arm in comparison.arms.items()
        }
    except ValidationError as error:
        raise SpecError("\n".join(f"--set stop.{line}" for line in explain(error))) from None
    return comparison.model_copy(update={"arms": arms})


def _reached(run: Path, stop: StopSpec) -> bool:
    """Whether the finished run has come to that end."""
    summary = read_json(run / "summary.json") or {}
    steps, seconds, best = summary.get("steps") or 0, summary.get("seconds") or 0.0, summary.get("best_score")
    return (
        (stop.steps is not None and steps >= stop.steps)
        or (stop.seconds is not None and seconds >= stop.seconds)
        or (stop.score is not None and best is not None and best <= stop.score)
    )


def status_of(run: Path) -> str:
    """How the run in that folder ended; empty: it has no summary."""
    return str((read_json(run / "summary.json") or {}).get("status", ""))


def _newest(run: Path, world: int) -> int:
    whole = CheckpointFolder(run, world).whole()
    if not whole:
        raise ValueError(
            f"{run}: there is no step of which all nodes have a checkpoint, so this run cannot be resumed; remove "
            "the folder to run it from the start (with checkpoint_every in its spec it could be resumed)"
        )
    return whole[-1]
