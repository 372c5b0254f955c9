"""A trained player as a file that others can load: safetensors, or ONNX for a device without PyTorch.

The exported model is the scored one: the mean of the nodes' parameters at the last snapshot.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter
from safetensors.torch import save
from torch import Tensor, nn

from gannet.ledger.snapshots import Snapshot, comparable
from gannet.node.data.config import DataConfig
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import KdganConfig, TaskConfig, TaskSetting
from gannet.node.tasks.gan.task import GanTask
from gannet.node.tasks.kdgan.task import KdganTask

FORMATS = (".safetensors", ".onnx")
ONNX_OPSET = 17


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
    deploy.

    Raises FileNotFoundError or ValueError, with the fix, for a folder, a player or a format that does not exist.
    """
    if to.suffix not in FORMATS:
        raise ValueError(f"--to {to}: give a file that ends in {' or '.join(FORMATS)}")
    if to.suffix == ".onnx" and find_spec("onnx") is None:
        raise ValueError(
            f"--to {to}: ONNX needs the package onnx: pip install 'gannet-testbed[export]', or export .safetensors"
        )
    spec = _read_spec(run_folder)
    setting: TaskSetting = TypeAdapter(TaskSetting).validate_python(spec["task"])
    data = DataConfig.model_validate(spec["data"])
    method: AlgorithmConfig = TypeAdapter(AlgorithmConfig).validate_python(spec["algorithm"])
    task = build_sampler(setting, data)
    chosen = player or ("classifier" if isinstance(setting, KdganConfig) else next(iter(task.players)))
    if chosen not in task.players:
        raise ValueError(f"--player {chosen}: this run has {', '.join(task.players)}")
    step, x = last_mean(run_folder, task, method.traits.worker_player)
    if to.suffix == ".onnx":
        network, example, names = _network(task, chosen, data)
        _write_onnx(network, task, x, example, names, to)
    else:
        note = {"player": chosen, "step": str(step), "run": str(spec["name"]), "arm": str(spec["arm"])}
        to.write_bytes(save(tensors_of(task, x, chosen), note))
    where = task.players[chosen]
    return Exported(to, chosen, step, where.stop - where.start, to.stat().st_size)


def last_mean(run_folder: Path, task: AnyTask, worker_player: str | None) -> tuple[int, Tensor]:
    """(step, mean of the nodes' x) of the last snapshot. Raises ValueError when it is not finite."""
    folders = sorted(run_folder.glob("snapshots/step-*"))
    if not folders:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: nothing to export; did the run stop early?")
    snapshot = Snapshot.read_header(folders[-1])
    x = comparable(snapshot.nodes(), task.players, worker_player).mean(0)
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


def _read_spec(run_folder: Path) -> dict[str, Any]:
    file = run_folder / "spec.yaml"
    if not (run_folder / "snapshots").is_dir() or not file.is_file():
        inside = sorted(path.parent for path in run_folder.glob("*/seed-*/spec.yaml"))
        fix = (
            f"give one of its runs, for example {inside[0]}" if inside else "give a run's folder, as `run` leaves it"
        )
        raise FileNotFoundError(f"{run_folder} is not a single run: {fix}")
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def _network(task: AnyTask, player: str, data: DataConfig) -> tuple[nn.Module, Tensor, tuple[str, str]]:
    """(the player's module, an example input, the names of input and output)."""
    if isinstance(task, KdganTask):
        return task.networks[player], torch.zeros(2, *data.image_shape), ("images", "logits")
    if isinstance(task, GanTask) and player == "generator":
        return task.generator, torch.zeros(2, task.config.latent), ("noise", "images")
    what = "a generator" if isinstance(task, GanTask) else f"task {TaskConfig().name} or kdgan"
    raise ValueError(f"--player {player}: ONNX export knows {what} only; export .safetensors instead")


def _write_onnx(
    network: nn.Module, task: AnyTask, x: Tensor, example: Tensor, names: tuple[str, str], to: Path
) -> None:
    """Write the module for any batch size, with standard operators only."""
    assert isinstance(task, KdganTask | GanTask)
    task.model.load(x)
    network.eval()
    with warnings.catch_warnings():
        # torch calls the exporter that needs no further package the old one
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            str(to),
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={names[0]: {0: "n"}, names[1]: {0: "n"}},
        )
