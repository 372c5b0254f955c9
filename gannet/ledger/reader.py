"""Loads run folders into typed, read-only objects for tables, conclusions and reports.

A run may have died at any moment, so a missing file, an empty file or a last line cut short is read as far as
possible and noted on the run. Any other mismatch is a LedgerError naming the file, the line and the field: a report
built on a misread folder would be worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gannet.fabrics.registry import is_modelled
from gannet.ledger.files import LedgerError, lines, models, read_json, read_yaml, validate
from gannet.ledger.records import (
    BadWindow,
    Certificate,
    Continuation,
    Environment,
    LinkEvent,
    LinkSample,
    Score,
    Step,
    Summary,
)
from gannet.netem.regular import check_regular

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SEED_FOLDER = re.compile(r"seed-(-?\d+)$")
IMAGE_NAME = re.compile(r"step-(\d+)\.png$")


@dataclass(frozen=True)
class Image:
    """One grid of generated images: training `step`, its PNG `path`, and `t_s` on the training clock if
    known."""

    step: int
    path: Path
    t_s: float | None


@dataclass(frozen=True)
class Run:
    """One training: everything its folder holds. `notes` says what was missing or cut short while reading."""

    folder: Path
    arm: str
    seed: int
    summary: Summary
    summary_raw: dict[str, Any]
    certificate: Certificate | None
    environment: Environment
    spec: dict[str, Any]
    spec_text: str
    steps: tuple[Step, ...]
    scores: tuple[Score, ...]
    links: tuple[LinkSample, ...]
    events: tuple[LinkEvent, ...]
    images: tuple[Image, ...]
    notes: tuple[str, ...]
    windows: tuple[BadWindow, ...] = ()

    @property
    def label(self) -> str:
        return self.summary.label or self.arm

    @property
    def finished(self) -> bool:
        return self.summary.status == "finished"

    @property
    def model(self) -> bool:
        """True when links were a model (virtual fabric): seconds are predicted, not measured."""
        declared = self.certificate is not None and self.certificate.model
        return declared or is_modelled(self.environment.fabric)

    @property
    def distrust(self) -> tuple[str, ...]:
        """Why this run must not be trusted; empty when it may be."""
        return reasons_to_distrust(self.summary, self.certificate, self.model)

    @property
    def trusted(self) -> bool:
        return not self.distrust


def reasons_to_distrust(summary: Summary, certificate: Certificate | None, model: bool) -> tuple[str, ...]:
    """Of both the summary and the certificate; empty when the run may be trusted. `model`: its links were one."""
    reasons = list(summary.reasons)
    distrusted = not summary.trusted
    if certificate is not None:
        reasons += [reason for reason in certificate.reasons if reason not in reasons]
        distrusted = distrusted or not certificate.trusted
    elif not model:  # modelled links have nothing to certify
        reasons.append("it has no link certificate")
        distrusted = True
    if not distrusted:
        return ()
    return tuple(reasons) or ("no reason was recorded",)


@dataclass(frozen=True)
class Arm:
    """One way of training in a comparison, with a run for each seed (none when it never started)."""

    name: str
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        return self.runs[0].label if self.runs else self.name


@dataclass(frozen=True)
class Comparison:
    """Several arms on equal terms, in the order of the spec."""

    folder: Path
    name: str
    created: str
    spec_text: str
    arms: tuple[Arm, ...] = field(default_factory=tuple)

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for arm in self.arms for run in arm.runs)


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison folder (<arm>/seed-<s>/ below it). Raises LedgerError when it holds no run.

    A run whose folder is malformed is one that failed, and its reason says what is wrong with it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LedgerError(f"{folder}: no such folder; give the folder of a comparison (it holds <arm>/seed-<n>/)")
    spec_text, spec = read_yaml(folder / "spec.yaml")
    found = {
        arm_folder.name: tuple(_read_or_told(seed_folder) for seed_folder in seeds)
        for arm_folder in sorted(child for child in folder.iterdir() if child.is_dir())
        if (seeds := seed_folders(arm_folder))
    }
    if not found:
        raise LedgerError(f"{folder}: no run in it; a comparison folder holds one folder per run, <arm>/seed-<n>/")
    declared = spec.get("arms")
    order = [str(name) for name in declared] if isinstance(declared, dict) else []
    known = [
        name for name in order if name in found or name not in {run.arm for arm in found.values() for run in arm}
    ]
    names = known + [name for name in found if name not in known]
    return Comparison(
        folder=folder,
        name=str(spec.get("name") or folder.name),
        created=_created(folder),
        spec_text=spec_text,
        arms=tuple(Arm(name, found.get(name, ())) for name in names),
    )


def _read_or_told(folder: Path) -> Run:
    try:
        return read_run(folder)
    except LedgerError as error:
        reason = f"its folder cannot be read: {error}"
        raw: dict[str, Any] = {"status": "failed", "reason": reason}
        nothing: dict[str, Any] = dict.fromkeys(("steps", "scores", "links", "events", "images"), ())
        return Run(
            folder=folder,
            arm=folder.parent.name,
            seed=int(folder.name.removeprefix("seed-")),
            summary=Summary.model_validate(raw),
            summary_raw=raw,
            certificate=None,
            environment=Environment(),
            spec={},
            spec_text="",
            notes=(reason,),
            **nothing,
        )


def read_run(folder: Path) -> Run:
    """Read one run folder, however far the run came; or the folder that `gannet run` made around it.

    Raises LedgerError on a malformed file, or when there is no run or more than one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LedgerError(f"{folder}: no such folder; give the folder of a run (it holds summary.json, steps.jsonl)")
    below = [seed for child in sorted(folder.iterdir()) if child.is_dir() for seed in seed_folders(child)]
    if len(below) == 1:
        return read_run(below[0])
    if below:
        raise LedgerError(f"{folder}: it holds {len(below)} runs; read one, such as {below[0]}, or the comparison")
    if not any((folder / name).exists() for name in ("summary.json", "spec.yaml", "steps.jsonl", "environment.json")):
        raise LedgerError(f"{folder}: this is no run folder; it has no summary.json, spec.yaml or steps.jsonl")
    notes: list[str] = []
    spec_text, spec = read_yaml(folder / "spec.yaml")
    summary_raw = read_json(folder / "summary.json")
    # A finished run was written to its end; only a run that died may leave half a line.
    cut_allowed = summary_raw is None or summary_raw.get("status") != "finished"
    steps = tuple(models(folder / "steps.jsonl", Step, notes, cut_allowed))
    samples: list[LinkSample] = []
    events: list[LinkEvent] = []
    windows: list[BadWindow] = []
    for number, record in lines(folder / "links.jsonl", notes, cut_allowed):
        if record.get("event") in ("configured", "series"):
            continue  # the figures that a change applied; the change has its own line
        if record.get("event") == "bad-window":
            windows.append(validate(BadWindow, record, folder / "links.jsonl", number))
        elif "event" in record:
            events.append(validate(LinkEvent, record, folder / "links.jsonl", number))
        else:
            samples.append(validate(LinkSample, record, folder / "links.jsonl", number))
    scores = tuple(sorted(models(folder / "scores.jsonl", Score, notes, cut_allowed), key=lambda s: s.step))
    if summary_raw is None:
        resumed = models(folder / "resumed.jsonl", Continuation, notes, cut_allowed)
        last = max((step.step for step in steps), default=0)
        notes.append(f"it left no summary.json: it was cut off after step {last}")
        summary_raw = {
            "status": "failed",
            "reason": notes[-1],
            "steps": last,
            "trusted": False,
            "reasons": [notes[-1], *(reason for part in resumed for reason in part.reasons())],
        }
    certificate_raw = read_json(folder / "certificate.json")
    seed = SEED_FOLDER.search(folder.name)
    summary = validate(Summary, summary_raw, folder / "summary.json", None)
    certificate = None
    if certificate_raw is not None:
        certificate = validate(Certificate, certificate_raw, folder / "certificate.json", None)
    return Run(
        folder=folder,
        arm=summary.arm or folder.parent.name,
        seed=summary.seed if summary.seed is not None else int(seed.group(1)) if seed else 0,
        summary=summary,
        summary_raw=summary_raw,
        certificate=certificate,
        environment=validate(
            Environment, read_json(folder / "environment.json") or {}, folder / "environment.json", None
        ),
        spec=spec,
        spec_text=spec_text,
        steps=steps,
        scores=scores,
        links=tuple(_counters_grow(samples, folder / "links.jsonl")),
        events=tuple(events),
        # The scores' times are means over nodes; the step's own times are used where a snapshot was not scored.
        images=_images(folder / "images", {s.step: s.t_s for s in steps} | {s.step: s.t_s for s in scores}),
        notes=tuple(notes),
        windows=tuple(windows),
    )


def seed_folders(arm_folder: Path) -> list[Path]:
    seeds = [child for child in arm_folder.iterdir() if child.is_dir() and SEED_FOLDER.match(child.name)]
    return sorted(seeds, key=lambda child: int(child.name.removeprefix("seed-")))


def _created(folder: Path) -> str:
    """When the comparison was made: what comparison.json already says, else the age of the spec file."""
    try:
        raw = read_json(folder / "comparison.json") or {}
    except LedgerError:  # the report that is being made replaces it
        raw = {}
    if isinstance(raw.get("created"), str):
        return str(raw["created"])
    spec = folder / "spec.yaml"
    stamp = (spec if spec.exists() else folder).stat().st_mtime
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds")


def _counters_grow(samples: list[LinkSample], path: Path) -> Iterator[LinkSample]:
    """Pass samples on, refusing bytes that shrink: an interface counts from its start (drops restart with a
    queue)."""
    last: dict[int, LinkSample] = {}
    for sample in samples:
        before = last.get(sample.node)
        for name in ("tx_bytes", "rx_bytes"):
            if before is not None and getattr(sample, name) < getattr(before, name):
                raise LedgerError(
                    f"{path}: node {sample.node}: {name} falls from {getattr(before, name)} to "
                    f"{getattr(sample, name)} at {sample.t_s} s; it must be a total that only grows"
                )
        last[sample.node] = sample
        yield sample


def _images(folder: Path, times: dict[int, float]) -> tuple[Image, ...]:
    found = []
    for path in sorted(folder.glob("step-*.png")) if folder.is_dir() else ():
        match = IMAGE_NAME.search(path.name)
        if match is None:
            raise LedgerError(f"{path}: an image must be called step-<number>.png")
        try:
            check_regular(path)
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}") from error
        with path.open("rb") as stream:
            if stream.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
                raise LedgerError(f"{path}: this is not a PNG image")
        found.append(Image(int(match.group(1)), path, times.get(int(match.group(1)))))
    return tuple(sorted(found, key=lambda image: image.step))
