"""Pictures from a trained generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from gannet.ledger.atomic import whole_file
from gannet.node.tasks.config import PythonTaskConfig, TaskConfig
from gannet.node.tasks.gan.task import GanTask
from gannet.scores.score_run import tiled
from gannet.trained.model import Trained, read_trained

MOST = 10_000


@dataclass(frozen=True)
class Sampled:
    """A picture that was written: how many images it shows, of which step, and of which class, None for all."""

    path: Path
    count: int
    step: int
    label: int | None

    def __str__(self) -> str:
        of_class = "" if self.label is None else f" of class {self.label}"
        return f"{self.count} images{of_class} from step {self.step} in {self.path}"


def sample(
    run_folder: Path,
    to: Path,
    count: int = 64,
    label: int | None = None,
    seed: int = 1,
    step: str = "last",
    node: int | None = None,
) -> Sampled:
    """Write one PNG with `count` new images side by side, of class `label` alone if given.

    `step`, `node`: see read_trained. The same seed gives the same images. Raises FileNotFoundError or ValueError,
    with the fix.
    """
    if to.suffix.lower() != ".png":
        raise ValueError(f"--to {to}: give a file that ends in .png")
    if not 1 <= count <= MOST:
        raise ValueError(f"-n {count}: from 1 to {MOST:,} images")
    trained = read_trained(run_folder, step, node)
    images = _images(trained, count, label, seed)
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as partial:
        Image.fromarray(tiled(images, math.ceil(math.sqrt(count)))).save(partial, format="png")
    return Sampled(to, count, trained.step, label)


def _images(trained: Trained, count: int, label: int | None, seed: int) -> Tensor:
    """(count, 1 or 3, H, W) in [-1, 1]."""
    task, config = trained.task, trained.spec.task
    if label is not None:
        classes = config.classes if isinstance(config, TaskConfig) else None
        if classes is None:
            raise ValueError(f"--class {label}: the generator of this run is not class-conditional (task.classes)")
        if not 0 <= label < classes:
            raise ValueError(f"--class {label}: this run has classes 0 to {classes - 1}")
        assert isinstance(task, GanTask)
        return task.generate_class(trained.x, count, seed, label)
    if not isinstance(config, TaskConfig | PythonTaskConfig):
        raise ValueError(f"task {config.name} generates no images: there is nothing to sample")
    images = task.generate(trained.x, count, seed)
    if images.ndim != 4 or len(images) != count or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{config}: its samples have shape {tuple(images.shape)}; images have ({count}, 1 or 3, height, width)"
        )
    return images
