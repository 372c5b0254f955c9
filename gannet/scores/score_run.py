"""Scores a run's snapshots after training: image quality, consensus distance, image grids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gannet.ledger.snapshots import Snapshot, comparable, consensus_distance, snapshot_folders, spread
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.config import TaskSetting
from gannet.scores.basis import measured_basis
from gannet.scores.scorer import AnyScorer, to_bytes

GRID_COLUMNS, GRID_ROWS = 8, 8
GAP_GREY = 128


def score_run(
    run_folder: Path,
    task: TaskSetting,
    scorer: AnyScorer,
    points: int = 12,
    progress: Callable[[int, int], None] | None = None,
    worker_player: str | None = None,
) -> list[dict[str, Any]]:
    """Score at most `points` snapshots of a finished run, evenly spaced in time, including the first and the last.

    The scored model is the mean of the nodes' generators, x_mean = (1/M) sum_i x_i. Each line also has the players'
    consensus distances, (1/M) sum_i |x_i - x_mean|^2. The x_i are those of `comparable`; `worker_player`: see Method.
    Writes scores.jsonl and images/step-*.png into the run's folder and returns the lines; calls progress(done,
    total). A model that is not finite has the score None.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    sampler = build_sampler(task, scorer.data, scorer.device)
    found = [Snapshot.read_header(folder) for folder in snapshot_folders(run_folder)]
    basis = measured_basis(task, scorer.data, sampler)
    if not found:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: no snapshots to score; did the run stop early?")
    chosen = spread(found, points)
    images = run_folder / "images"
    images.mkdir(exist_ok=True)
    lines = []
    with (run_folder / "scores.jsonl").open("w") as file:
        for done, snapshot in enumerate(chosen, start=1):
            line = _score_snapshot(snapshot, sampler, scorer, images / f"{snapshot.folder.name}.png", worker_player)
            line["basis"] = basis
            file.write(json.dumps(line) + "\n")
            lines.append(line)
            if progress is not None:
                progress(done, len(chosen))
    return lines


def _score_snapshot(
    snapshot: Snapshot, sampler: AnyTask, scorer: AnyScorer, image: Path, worker_player: str | None
) -> dict[str, Any]:
    states = snapshot.nodes()
    sizes = {len(x) for x in states.values()}
    if sizes != {sampler.size}:
        raise ValueError(f"{snapshot.folder}: {max(sizes)} values, but this task has {sampler.size}")
    x = comparable(states, sampler.players, worker_player)
    mean = x.mean(0)
    line: dict[str, Any] = {
        "step": snapshot.step,
        "t_s": snapshot.t_s,
        "bytes": snapshot.bytes,
        "of": "average",
        "nodes": len(x),
        "score_name": scorer.name,
        "samples": scorer.samples,
        "features": scorer.features,
        "score": None,
        "classes_found": None,
        "more": [],
        "classes": None,
    }
    for player, where in sampler.players.items():
        line[f"consensus_{player}"] = consensus_distance(x[:, where])
    if mean.isfinite().all():
        score, told = scorer.judge(sampler, mean)
        line |= {"score": score.value, "classes_found": score.classes_found, "classes": score.class_shares}
        line |= {**told.more, "more": list(told.more)}
        if told.images is not None:
            Image.fromarray(grid(told.images)).save(image)
    return line


def grid(images: Tensor) -> NDArray[np.uint8]:
    """The first GRID_ROWS x GRID_COLUMNS images side by side, one pixel apart: (height, width, 3)."""
    columns = min(GRID_COLUMNS, len(images))
    tiles = F.pad(to_bytes(images[: GRID_ROWS * GRID_COLUMNS]), (0, 1, 0, 1), value=GAP_GREY)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, -len(tiles) % columns), value=GAP_GREY)
    rows = [torch.cat(list(row), dim=-1) for row in torch.split(tiles.expand(-1, 3, -1, -1), columns)]
    return torch.cat(rows, dim=-2).permute(1, 2, 0).numpy()
