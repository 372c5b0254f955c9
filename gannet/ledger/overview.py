"""How each run below a folder ended, from its short files alone: its steps may be gigabytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gannet.fabrics.registry import is_modelled
from gannet.ledger.files import LedgerError, read_json, read_yaml, validate
from gannet.ledger.reader import SEED_FOLDER, reasons_to_distrust, seed_folders
from gannet.ledger.records import Certificate, Environment, Summary

_TAIL = 1 << 16  # bytes, more than a line of steps.jsonl


@dataclass(frozen=True)
class RunOverview:
    """One run: `status` is that of its summary, "unfinished" without one, or "unreadable"; `reason` says why.

    `steps` and `seconds` are of its end, or of the last step that it wrote; `written` is when that was.
    """

    folder: Path
    arm: str
    seed: int
    status: str
    reason: str = ""
    steps: int = 0
    seconds: float | None = None
    score: float | None = None
    score_name: str = ""
    distrust: tuple[str, ...] = ()
    written: datetime | None = None


@dataclass(frozen=True)
class ResultsFolder:
    """A folder that `run`, `compare` or a container left, and its runs by arm and seed in the spec's order."""

    folder: Path
    name: str
    runs: tuple[RunOverview, ...]


def results_below(folder: Path) -> Iterator[ResultsFolder]:
    """The folders of results in a folder, by the time of their last change; or the one that it is itself.

    Other folders in it are passed over. Raises LedgerError when there is no such folder.
    """
    if not folder.is_dir():
        raise LedgerError(f"{folder}: no such folder; give the one that your runs are in, such as runs")
    if (found := _results(folder)) is not None:
        yield found
        return
    children = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    for child in sorted(children, key=lambda path: (path.stat().st_mtime, path.name)):
        if (found := _results(child)) is not None:
            yield found


def _results(folder: Path) -> ResultsFolder | None:
    if SEED_FOLDER.match(folder.name):
        return ResultsFolder(folder, folder.parent.name, (_run(folder),))
    by_arm = {arm.name: seed_folders(arm) for arm in sorted(folder.iterdir()) if arm.is_dir()}
    if not any(by_arm.values()) and not (folder / "spec.yaml").is_file():
        return None
    try:
        _, spec = read_yaml(folder / "spec.yaml")
    except LedgerError as error:
        broken = RunOverview(folder, "", 0, "unreadable", str(error))
        return ResultsFolder(folder, folder.name, (broken,))
    declared = spec.get("arms")
    order = list(map(str, declared)) if isinstance(declared, dict) else []
    arms = [*(name for name in order if name in by_arm), *(name for name in by_arm if name not in order)]
    runs = tuple(_run(seed) for arm in arms for seed in by_arm[arm])
    return ResultsFolder(folder, str(spec.get("name") or folder.name), runs)


def _run(folder: Path) -> RunOverview:
    arm, seed = folder.parent.name, int(folder.name.removeprefix("seed-"))
    try:
        raw = read_json(folder / "summary.json")
        if raw is None:
            return RunOverview(folder, arm, seed, "unfinished", **_last_step(folder / "steps.jsonl"))
        summary = validate(Summary, raw, folder / "summary.json", None)
        certificate = None
        if (raw := read_json(folder / "certificate.json")) is not None:
            certificate = validate(Certificate, raw, folder / "certificate.json", None)
        raw = read_json(folder / "environment.json") or {}
        environment = validate(Environment, raw, folder / "environment.json", None)
    except LedgerError as error:
        return RunOverview(folder, arm, seed, "unreadable", str(error))
    model = is_modelled(environment.fabric) or (certificate is not None and certificate.model)
    return RunOverview(
        folder,
        summary.arm or arm,
        seed,
        summary.status,
        summary.reason or "",
        summary.steps,
        summary.seconds,
        summary.final_score,
        summary.score_name or "",
        reasons_to_distrust(summary, certificate, model),
        _time_of(folder / "summary.json"),
    )


def _last_step(file: Path) -> dict[str, Any]:
    """What the last whole line says of how far a run without a summary came."""
    if not file.is_file():
        return {}
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL))
        tail = stream.read().split(b"\n")[:-1]
    for line in reversed(tail):
        try:
            step = json.loads(line)
            return {"steps": int(step["step"]), "seconds": float(step["t_s"]), "written": _time_of(file)}
        except (ValueError, TypeError, KeyError):
            continue
    return {}


def _time_of(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
