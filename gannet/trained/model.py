"""The model that a run trained: the mean of the nodes' parameters at one of its snapshots, as it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from gannet.ledger.files import models, read_yaml, validate
from gannet.ledger.records import Score
from gannet.ledger.snapshots import Snapshot, comparable, snapshot_folders, step_of
from gannet.node.data.config import DataConfig
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import TaskSetting


class TrainedSpec(BaseModel):
    """What of a run's spec decides what its model is; the rest is not read."""

    name: str = "run"
    arm: str = ""
    task: TaskSetting
    data: DataConfig = DataConfig()  # games have none
    algorithm: AlgorithmConfig


@dataclass(frozen=True)
class Trained:
    """The mean x (size,) of the nodes, or a node's own, after `step`, and the task that it is of."""

    spec: TrainedSpec
    task: AnyTask
    step: int
    x: Tensor


def read_trained(run_folder: Path, step: str = "last", node: int | None = None) -> Trained:
    """The model at the snapshot after `step`: a number, "last", or "best", the one with the best score.

    `node`: that node's own model instead of the mean. Raises FileNotFoundError or ValueError, with the fix, for a
    folder without snapshots, for a step or a node without one, and for parameters that are not finite.
    """
    spec = _read_spec(run_folder)
    folders = {step_of(folder): folder for folder in snapshot_folders(run_folder)}
    if not folders:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: no snapshot in it; did the run stop early?")
    chosen = max(folders) if step == "last" else _best(run_folder) if step == "best" else _number(step)
    if chosen not in folders:
        steps = ", ".join(map(str, folders))
        raise ValueError(f"--step {step}: there is no snapshot of step {chosen}; there are those of {steps}")
    snapshot = Snapshot.read_header(folders[chosen])
    task = build_sampler(spec.task, spec.data)
    states = snapshot.nodes()
    if wrong := {len(x) for x in states.values()} - {task.size}:
        raise ValueError(f"{snapshot.folder}: {max(wrong)} values, but this task has {task.size}")
    if node is not None and node not in states:
        raise ValueError(f"--node {node}: {snapshot.folder} has nodes {', '.join(map(str, sorted(states)))}")
    rows = comparable(states, task.players, spec.algorithm.traits.worker_player)
    x = rows.mean(0) if node is None else rows[sorted(states).index(node)]
    if not x.isfinite().all():
        raise ValueError(f"{snapshot.folder}: the parameters are not finite: this run has diverged")
    return Trained(spec, task, snapshot.step, x)


def _number(step: str) -> int:
    if not step.isdecimal():
        raise ValueError(f"--step {step}: give the step of a snapshot, last, or best")
    return int(step)


def _best(run_folder: Path) -> int:
    """The step with the best score, the earliest of equal ones."""
    lines = models(run_folder / "scores.jsonl", Score, [], cut_allowed=False)
    scored = [line for line in lines if line.score is not None]
    if not scored:
        raise ValueError(f"--step best: {run_folder} has no scores; `gannet score {run_folder}` makes them")

    def order(line: Score) -> tuple[float, int]:
        assert line.score is not None
        return (line.score if line.better == "lower" else -line.score), line.step

    return min(scored, key=order).step


def _read_spec(run_folder: Path) -> TrainedSpec:
    file = run_folder / "spec.yaml"
    if not (run_folder / "snapshots").is_dir() or not file.is_file():
        inside = sorted(path.parent for path in run_folder.glob("*/seed-*/spec.yaml"))
        fix = (
            f"give one of its runs, for example {inside[0]}" if inside else "give a run's folder, as `run` leaves it"
        )
        raise FileNotFoundError(f"{run_folder} is not a single run: {fix}")
    return validate(TrainedSpec, read_yaml(file)[1], file, None)
