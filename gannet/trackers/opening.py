"""Opens a tracker of any kind; its packages are imported only now."""

from __future__ import annotations

import os

from gannet.trackers.base import TrackedRun, Tracker

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}  # unless the user has set them


def open_tracker(kind: str, run: TrackedRun, offline: bool) -> Tracker:
    """Begin the log of a run. `offline`: this process has no network, and is not to try it. May raise anything."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if kind == "tensorboard":
        from gannet.trackers.tensorboard import TensorBoard

        return TensorBoard(run)
    if kind == "wandb":
        from gannet.trackers.wandb import WeightsAndBiases

        return WeightsAndBiases(run, offline)
    from gannet.trackers.mlflow import Mlflow

    return Mlflow(run, offline)
