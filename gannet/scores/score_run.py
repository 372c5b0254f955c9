"""Scores a run's snapshots after training: image quality, consensus distance, image grids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gannet.ledger.atomic import whole_file
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
    faults: list[str] | None = None,
    node_models: Literal["none", "last", "all"] = "none",
) -> list[dict[str, Any]]:
    """Score at most `points` snapshots of a finished run, evenly spaced in time, including the first and the last.

    The scored model is the mean of the nodes' generators, x_mean = (1/M) sum_i x_i. Each line also has the players'
    consensus distances, (1/M) sum_i |x_i - x_mean|^2. The x_i are those of `comparable`; `worker_player`: see Method.
    Writes scores.jsonl and images/step-*.png into the run's folder and returns the lines; calls progress(done,
    total). A model that is not finite has the score None. `node_models`: at which of the snapshots each x_i is scored
    by itself as well.

    `faults` collects why single snapshots could not be scored: the others are. Without it, and where none can be
    scored, the first error is raised, and scores.jsonl stays as it was.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    sampler = build_sampler(task, scorer.data, scorer.device)
    folders, errors, found = snapshot_folders(run_folder), [], []
    for folder in folders:
        try:
            found.append(Snapshot.read_header(folder))
        except Exception as error:
            if faults is None or folder == folders[-1]:  # without the last snapshot there is no final score
                raise
            errors.append(error)
    basis = measured_basis(task, scorer.data, sampler)
    if not found:
        raise FileNotFoundError(f"{run_folder / 'snapshots'}: no snapshots to score; did the run stop early?")
    chosen = spread(found, points)
    images = run_folder / "images"
    images.mkdir(exist_ok=True)
    lines: list[dict[str, Any]] = []
    for done, snapshot in enumerate(chosen, start=1):
        line = _line(snapshot, scorer, basis)
        try:
            line |= _score_snapshot(snapshot, sampler, scorer, images / f"{snapshot.folder.name}.png", worker_player)
        except Exception as error:
            if faults is None:
                raise
            errors.append(error)
            line["fault"] = in_words(error)
        else:
            if node_models == "all" or (node_models == "last" and snapshot is chosen[-1]):
                line["node_models"] = list(_own_models(snapshot, sampler, scorer, errors))
        lines.append(line)
        if progress is not None:
            progress(done, len(chosen))
    if lines and all("fault" in line for line in lines):
        raise errors[-1]
    if faults is not None:
        faults += map(in_words, errors)
    with whole_file(run_folder / "scores.jsonl") as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def in_words(error: BaseException) -> str:
    """An error for a table or a note; of one that was not raised for a user, its type says the most."""
    text = " ".join(str(error).split())
    return text if text and isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"


def _line(snapshot: Snapshot, scorer: AnyScorer, basis: dict[str, Any]) -> dict[str, Any]:
    """The line of a snapshot that has no score yet."""
    return {
        "step": snapshot.step,
        "t_s": snapshot.t_s,
        "bytes": snapshot.bytes,
        "of": "average",
        "score_name": scorer.name,
        "samples": scorer.samples,
        "features": scorer.features,
        "basis": basis,
        "score": None,
        "classes_found": None,
        "more": [],
        "classes": None,
    }


def _score_snapshot(
    snapshot: Snapshot, sampler: AnyTask, scorer: AnyScorer, image: Path, worker_player: str | None
) -> dict[str, Any]:
    """The fields of its line that come from its model."""
    states = snapshot.nodes()
    sizes = {len(x) for x in states.values()}
    if sizes != {sampler.size}:
        raise ValueError(f"{snapshot.folder}: {max(sizes)} values, but this task has {sampler.size}")
    x = comparable(states, sampler.players, worker_player)
    mean = x.mean(0)
    line: dict[str, Any] = {"nodes": len(x)}
    for player, where in sampler.players.items():
        line[f"consensus_{player}"] = consensus_distance(x[:, where])
    if mean.isfinite().all():
        score, told = scorer.judge(sampler, mean)
        line |= {"score": score.value, "classes_found": score.classes_found, "classes": score.class_shares}
        line |= {**told.more, "more": list(told.more)}
        if told.images is not None:
            Image.fromarray(grid(told.images)).save(image)
    return line


def _own_models(
    snapshot: Snapshot, sampler: AnyTask, scorer: AnyScorer, errors: list[Exception]
) -> Iterator[dict[str, Any]]:
    """A line for each node's own model; one that cannot be scored costs the others nothing."""
    for rank, x in sorted(snapshot.nodes().items()):
        line: dict[str, Any] = {"node": rank, "score": None, "classes_found": None, "more": {}}
        if x.isfinite().all():
            try:
                score, told = scorer.judge(sampler, x)
                line |= {"score": score.value, "classes_found": score.classes_found, "more": dict(told.more)}
            except Exception as error:
                errors.append(error)
                line["fault"] = in_words(error)
        yield line


def grid(images: Tensor) -> NDArray[np.uint8]:
    """The first GRID_ROWS x GRID_COLUMNS images as `tiled`."""
    return tiled(images[: GRID_ROWS * GRID_COLUMNS], GRID_COLUMNS)


def tiled(images: Tensor, columns: int) -> NDArray[np.uint8]:
    """Images (n, 1 or 3, H, W) in rows of at most `columns`, one pixel apart: (height, width, 3)."""
    columns = min(columns, len(images))
    tiles = F.pad(to_bytes(images), (0, 1, 0, 1), value=GAP_GREY)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, -len(tiles) % columns), value=GAP_GREY)
    rows = [torch.cat(list(row), dim=-1) for row in torch.split(tiles.expand(-1, 3, -1, -1), columns)]
    return torch.cat(rows, dim=-2).permute(1, 2, 0).numpy()
