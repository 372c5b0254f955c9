"""Weights & Biases: offline unless WANDB_MODE says otherwise, so that no run waits for a network or an account."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import wandb

from gannet.trackers.base import TrackedRun

PROJECT = "gannet"
_BEGIN_S = 60  # the most that its service may take to begin


class WeightsAndBiases:
    """One wandb run. Figures have an axis `step` of their own: wandb's may not go back, and scores come last."""

    def __init__(self, run: TrackedRun, offline: bool) -> None:
        mode = "offline" if offline else os.environ.get("WANDB_MODE", "offline")
        run.root.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_BEGIN_S,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=run.comparison,
            name=run.name,
            config=dict(run.parameters),
            dir=str(run.root),
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            settings=settings,
        )
        self._run.define_metric("*", step_metric="step")
        online = mode == "online"
        self.where = f"wandb project {PROJECT}" if online else f"wandb sync {Path(self._run.dir).parent}"

    def figures(self, step: int, t_s: float, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.log({"step": step, "t_s": t_s, **values})

    def picture(self, step: int, t_s: float, file: Path) -> None:
        """See Tracker."""
        self._run.log({"step": step, "t_s": t_s, "images": wandb.Image(str(file))})

    def end(self, status: str) -> None:
        """See Tracker."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)
