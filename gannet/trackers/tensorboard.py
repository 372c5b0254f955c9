"""TensorBoard: event files, one folder a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gannet.trackers.base import TrackedRun


class TensorBoard:
    """`tensorboard --logdir ROOT/tensorboard`. Its "relative" time axis is the training clock."""

    def __init__(self, run: TrackedRun) -> None:
        folder = run.root / "tensorboard" / run.name
        if any(folder.glob("events.*")):
            raise FileExistsError(
                f"{folder} has events already, which would be mixed: remove it to log the run again"
            )
        self.where = f"tensorboard --logdir {run.root / 'tensorboard'}"
        self._run = run
        self._writer = SummaryWriter(str(folder))
        for summary in hparams(dict(run.parameters), {"score": 0}):  # the second names the metric, without a value
            self._writer.file_writer.add_summary(summary)

    def figures(self, step: int, t_s: float, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=self._run.when(t_s))

    def picture(self, step: int, t_s: float, file: Path) -> None:
        """See Tracker."""
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image("images", pixels, step, walltime=self._run.when(t_s), dataformats="HWC")

    def end(self, status: str) -> None:
        """See Tracker."""
        self._writer.add_text("status", status)
        self._writer.close()
