"""A trained player as a file that others can load: safetensors, or ONNX for a device without PyTorch.

The exported model is the scored one: the mean of the nodes' parameters at the last snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from safetensors.torch import save
from torch import Tensor

from gannet.experiment.onnx_file import check_packages, write_onnx
from gannet.ledger.atomic import whole_file
from gannet.ledger.files import read_yaml, validate
from gannet.ledger.snapshots import Snapshot, comparable, snapshot_folders
from gannet.node.data.config import DataConfig
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import KdganConfig, TaskSetting

FORMATS = (".safetensors", ".onnx")


@dataclass(frozen=True)
class Exported:
    """A written file: the number of its player's values, and its size."""

    path: Path
    player: str
    step: int
    parameters: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.player} of step {self.step}: {self.parameters:,} values, {self.bytes / 1e6:.2f} MB in {self.path}"
        )


def export(run_folder: Path, to: Path, player: str | None = None) -> Exported:
    """Write a player of a finished run to `to`, whose suffix selects the format; default: the player that one would
    deploy. A missing folder above `to` is made.

    Raises FileNotFoundError or ValueError, with the fix, for a folder, a player or a format that does not exist.
    """
    suffix = to.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"--to {to}: give a file that ends in {' or '.join(FORMATS)}")
    if to.is_dir():
        raise ValueError(f"--to {to}: this is a folder; give a file in it, such as {to / f'model{suffix}'}")
    if suffix == ".onnx":
        check_packages()
    spec = _read_spec(run_folder)
    task = build_sampler(spec.task, spec.data)
    chosen = player or ("classifier" if isinstance(spec.task, KdganConfig) else next(iter(task.players)))
    if chosen not in task.players:
        raise ValueError(f"--player {chosen}: this run has {', '.join(task.players)}")
    step, x = last_mean(run_folder, task, spec.algorithm.traits.worker_player)
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as partial:
        if suffix == ".onnx":
            write_onnx(spec.task, spec.data, x, chosen, partial)
        else:
            note = {"player": chosen, "step": str(step), "run": spec.name, "arm": spec.arm}
            partial.write_bytes(save(tensors_of(task, x, chosen), note))
    where = task.players[chosen]
    return Exported(to, chosen, step, where.stop - where.start, to.stat().st_size)


def last_mean(run_folder: Path, task: AnyTask, worker_player: str | None) -> tuple[int, Tensor]:
    """(step, mean of the nodes' x) of the last snapshot. Raises ValueError when it is not finite."""
    folders = snapshot_folders(run_folder)
    if not folders:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: nothing to export; did the run stop early?")
    snapshot = Snapshot.read_header(folders[-1])
    states = snapshot.nodes()
    if wrong := {len(x) for x in states.values()} - {task.size}:
        raise ValueError(f"{folders[-1]}: {max(wrong)} values, but this task has {task.size}")
    x = comparable(states, task.players, worker_player).mean(0)
    if not x.isfinite().all():
        raise ValueError(f"{folders[-1]}: the parameters are not finite: this run has diverged")
    return snapshot.step, x


def tensors_of(task: AnyTask, x: Tensor, player: str) -> dict[str, Tensor]:
    """A player's tensors and buffers by their names in its module, without the player's name."""
    prefix = f"{player}."
    return {
        spec.name.removeprefix(prefix): x[spec.place].view(spec.shape).clone()
        for spec in task.layout
        if spec.name.startswith(prefix)
    }


class _Trained(BaseModel):
    """What of a run's spec decides what a player is; the rest is not read."""

    name: str = "run"
    arm: str = ""
    task: TaskSetting
    data: DataConfig = DataConfig()  # games have none
    algorithm: AlgorithmConfig


def _read_spec(run_folder: Path) -> _Trained:
    file = run_folder / "spec.yaml"
    if not (run_folder / "snapshots").is_dir() or not file.is_file():
        inside = sorted(path.parent for path in run_folder.glob("*/seed-*/spec.yaml"))
        fix = (
            f"give one of its runs, for example {inside[0]}" if inside else "give a run's folder, as `run` leaves it"
        )
        raise FileNotFoundError(f"{run_folder} is not a single run: {fix}")
    return validate(_Trained, read_yaml(file)[1], file, None)
