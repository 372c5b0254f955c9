"""A trained player as a file that others can load: safetensors, or ONNX for a device without PyTorch.

The exported model is the scored one: the mean of the nodes' parameters at a snapshot, or one node's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from gannet.ledger.atomic import whole_file
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import KdganConfig
from gannet.trained.model import read_trained
from gannet.trained.onnx_file import check_packages, write_onnx

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


def export(
    run_folder: Path, to: Path, player: str | None = None, step: str = "last", node: int | None = None
) -> Exported:
    """Write a player of a finished run to `to`, whose suffix selects the format; default: the player that one would
    deploy. A missing folder above `to` is made. `step`, `node`: as of read_trained.

    Raises FileNotFoundError or ValueError, with the fix, for a folder, a player or a format that does not exist.
    """
    suffix = to.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"--to {to}: give a file that ends in {' or '.join(FORMATS)}")
    if to.is_dir():
        raise ValueError(f"--to {to}: this is a folder; give a file in it, such as {to / f'model{suffix}'}")
    if suffix == ".onnx":
        check_packages()
    trained = read_trained(run_folder, step, node)
    spec, task = trained.spec, trained.task
    chosen = player or ("classifier" if isinstance(spec.task, KdganConfig) else next(iter(task.players)))
    if chosen not in task.players:
        raise ValueError(f"--player {chosen}: this run has {', '.join(task.players)}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as partial:
        if suffix == ".onnx":
            write_onnx(spec.task, spec.data, trained.x, chosen, partial)
        else:
            note = {"player": chosen, "step": str(trained.step), "run": spec.name, "arm": spec.arm}
            note |= {} if node is None else {"node": str(node)}
            partial.write_bytes(save(tensors_of(task, trained.x, chosen), note))
    where = task.players[chosen]
    return Exported(to, chosen, trained.step, where.stop - where.start, to.stat().st_size)


def tensors_of(task: AnyTask, x: Tensor, player: str) -> dict[str, Tensor]:
    """A player's tensors and buffers by their names in its module, without the player's name."""
    prefix = f"{player}."
    return {
        spec.name.removeprefix(prefix): x[spec.place].view(spec.shape).clone()
        for spec in task.layout
        if spec.name.startswith(prefix)
    }
