"""The parameters that a run left behind: its snapshots, and the nodes' states as rows of a matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from gannet.ledger.files import LedgerError
from gannet.netem.regular import check_regular


@dataclass(frozen=True)
class Snapshot:
    """One step's snapshots of all nodes: t_s is their mean time, bytes what all had sent by then."""

    folder: Path
    step: int
    t_s: float
    bytes: int

    @classmethod
    def read_header(cls, folder: Path) -> Snapshot:
        """Without the parameters. Raises LedgerError for a file that is cut short or no snapshot."""
        headers = []
        for path in folder.glob("node-*.safetensors"):
            with _whole(path), safe_open(path, framework="pt") as file:
                found = file.metadata() or {}
                headers.append((int(found["step"]), float(found["t_s"]), int(found["bytes"])))
        if not headers:
            raise FileNotFoundError(f"{folder}: no node-*.safetensors inside")
        steps, times_s, sent = zip(*headers, strict=True)
        return cls(folder=folder, step=steps[0], t_s=sum(times_s) / len(times_s), bytes=sum(sent))

    def nodes(self) -> dict[int, Tensor]:
        """The parameters of all nodes, (size,), by rank. Raises LedgerError for a file that is no snapshot."""
        states = {}
        for path in self.folder.glob("node-*.safetensors"):
            with _whole(path):
                states[int(path.stem.removeprefix("node-"))] = load_file(path)["x"]
        return states


def snapshot_folders(run: Path) -> list[Path]:
    """The folders of a run's snapshots by step, without those that a killed run left empty. Raises LedgerError."""
    found = {step_of(folder): folder for folder in (run / "snapshots").glob("step-*")}
    return [folder for _, folder in sorted(found.items()) if any(folder.glob("node-*.safetensors"))]


def step_of(folder: Path) -> int:
    """The step in a name step-<number>: names do not sort as steps do, from step 1,000,000 on. Raises LedgerError."""
    number = folder.name.removeprefix("step-")
    if not number.isdecimal():
        raise LedgerError(f"{folder}: it must be called step-<number>; move it away")
    return int(number)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        check_regular(path)
        yield
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise LedgerError(
            f"{path}: this is no whole snapshot ({error}); remove {path.parent} to use the run's other snapshots"
        ) from error


def comparable(states: Mapping[int, Tensor], players: Mapping[str, slice], worker_player: str | None) -> Tensor:
    """The nodes' states by rank as rows (M, size) that can be averaged and compared.

    Where the method leaves one player to the workers (Method.worker_player, as MD-GAN does the discriminator), all
    other players are on rank 0 alone: every row has those, NaN where rank 0 is missing. Rank 0 lacks the workers'
    player: its row has the workers' mean.
    """
    ranks = sorted(states)
    x = torch.stack([states[rank] for rank in ranks])
    if worker_player is not None:
        critic = players[worker_player]
        served = x[0].clone() if ranks[0] == 0 else torch.full_like(x[0], torch.nan)
        if ranks[0] == 0 and len(ranks) > 1:
            x[0, critic] = x[1:, critic].mean(0)
        x[:, : critic.start], x[:, critic.stop :] = served[: critic.start], served[critic.stop :]
    return x


def spread(snapshots: list[Snapshot], points: int) -> list[Snapshot]:
    """At most `points` of them, nearest to evenly spaced times from the first to the last."""
    in_time = sorted(snapshots, key=lambda snapshot: snapshot.t_s)
    if len(in_time) <= points:
        return in_time
    times = np.array([snapshot.t_s for snapshot in in_time])
    wanted = np.linspace(times[0], times[-1], points) if points > 1 else times[-1:]
    return [in_time[i] for i in sorted({int(np.abs(times - t_s).argmin()) for t_s in wanted})]


def consensus_distance(x: Tensor) -> float | None:
    """(1/M) sum_i |x_i - x_mean|^2 for x of shape (M, n); None if not finite, as JSON has no infinity."""
    distance = (x - x.mean(0)).square().sum(1).mean().item()
    return distance if math.isfinite(distance) else None
