"""Writes the run folder: one per run, line by line while the run lasts, so that nothing is lost.

spec.yaml environment.json certificate.json steps.jsonl links.jsonl snapshots/ checkpoints/ summary.json
(after scoring: scores.jsonl images/; of a run that resumed from a checkpoint: resumed.jsonl;
where a user's own task was trained, a copy of its file)
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import IO, Any

from safetensors.torch import save
from torch import Tensor

from gannet.fabrics.job import NODE_JOINED, NODE_LOST, NODE_RETURNED, Resumed
from gannet.ledger import records
from gannet.ledger.atomic import whole_file
from gannet.ledger.checkpoints import CheckpointFolder
from gannet.ledger.files import lines, read_json, validate
from gannet.ledger.full_disk import FullDisk, LineFile
from gannet.ledger.records import Continuation, LinkEvent, Step, to_json
from gannet.ledger.snapshots import step_of
from gannet.ledger.totals import NodeTotals
from gannet.netem import yaml12
from gannet.netem.measure.certificate import Certificate
from gannet.netem.regular import check_regular
from gannet.node.training.meter import LAYERS, StepStats
from gannet.spec.run_spec import RunSpec

_TOTALS = ("tx_bytes", "rx_bytes")
_DISK_FULL = "disk-full"


class Ledger:
    """A Sink that records a run in its folder and keeps the sums that its summary needs.

    `resumed`: where the run in that folder resumes. Records of later steps and times are dropped, since those steps
    are made again; so each step of a node has one line. `taken_up`: the run in that folder trains, and the process
    that recorded it is gone; its records are continued, but for a line that was cut short.
    """

    def __init__(self, folder: Path, spec: RunSpec, resumed: Resumed | None = None, taken_up: bool = False) -> None:
        if resumed is None and not taken_up and (folder / "steps.jsonl").exists():
            raise FileExistsError(f"{folder} holds a run already: choose another folder, or remove it")
        self.folder, self.disk = folder, FullDisk(folder)
        self.disk.write(lambda: (folder / "snapshots").mkdir(parents=True, exist_ok=True))
        self._modelled = spec.fabric_kind.modelled
        self._told_wait_s = 0.0
        self.refusals: Counter[str] = Counter()
        self.lost: dict[int, str] = {}  # nodes, and why
        self.missing = 0
        self.stats = {rank: NodeTotals() for rank in range(spec.nodes)}
        self._totals = _Totals([])
        self._checkpoints = CheckpointFolder(folder, spec.nodes)
        self._before: Counter[tuple[int, str]] = Counter()  # bytes of a resumed run's kept lines, by rank and layer
        self.resumed: list[Continuation] = []
        if taken_up:
            self._take_up()
        elif resumed is None:
            self.disk.write(lambda: self._describe(spec))
        else:
            self._go_back(resumed)
            self.disk.write(lambda: self._describe(spec))  # it may have another end now
        self._steps = LineFile(folder / "steps.jsonl", self.disk)
        self._links = LineFile(folder / "links.jsonl", self.disk)
        if resumed is not None:
            event = LinkEvent(t_s=resumed.begin_s, event="resumed", detail=f"went on after step {resumed.step}")
            self.links(to_json(event))

    def _describe(self, spec: RunSpec) -> None:
        write_yaml(self.folder / "spec.yaml", spec.model_dump(mode="json"))
        for name, text in spec.python_files.items():
            (self.folder / name).write_text(text, encoding="utf-8")

    def _go_back(self, resumed: Resumed) -> None:
        """Restore the folder's state at that step, after recording the resumption and all reasons until then."""
        self.resumed = self._resumption(resumed)
        for figures in self._steps_again(lambda line: line["step"] <= resumed.step):
            for layer in LAYERS:
                self._before[figures.node, layer] += getattr(figures, f"{layer}_bytes")
        kept = _kept(
            self.folder / "links.jsonl", lambda line: line.get("t_s", line.get("to_s", 0)) <= resumed.begin_s
        )
        self._totals = _Totals(kept)
        for later in (self.folder / "snapshots").glob("step-*"):
            if step_of(later) > resumed.step:
                shutil.rmtree(later)
        self._checkpoints.forget_after(resumed.step)
        (self.folder / "summary.json").unlink(missing_ok=True)  # it recorded that the run had stopped

    def _steps_again(self, wanted: Callable[[dict[str, Any]], bool]) -> list[Step]:
        """The wanted lines of steps.jsonl, which then has no others; they count as made."""
        path = self.folder / "steps.jsonl"
        found = [validate(Step, line, path, None) for line in _kept(path, wanted)]
        for figures in found:
            self.stats[figures.node].add(figures)
            self.missing += len(figures.missing)
        return found

    def _take_up(self) -> None:
        """Count what is recorded; nodes and the agents of their links count on from where they were."""
        self._steps_again(lambda line: True)
        for line in _kept(self.folder / "links.jsonl", lambda line: True):
            self._note(line)

    def _resumption(self, resumed: Resumed) -> list[Continuation]:
        """Record it in resumed.jsonl, with the reasons of the part before it; returns all resumptions."""
        path = self.folder / "resumed.jsonl"
        before = [validate(Continuation, line, path, None) for line in _kept(path, lambda line: True)]
        certificate = self.folder / "certificate.json"
        found = read_json(certificate)
        reasons = [] if found is None else list(validate(records.Certificate, found, certificate, None).reasons)
        known = {reason for was in before for reason in was.reasons_before}  # events stay where their time is kept
        reasons += [reason for reason in _waits(self.folder / "links.jsonl") if reason not in known]
        here = Continuation(
            step=resumed.step,
            t_s=resumed.begin_s,
            written=now(),
            reasons_before=tuple(reasons),
            changes=resumed.changes,
            passed_over=resumed.passed_over,
        )
        with whole_file(path, durable=True) as partial, partial.open("w", encoding="utf-8") as file:
            for each in (*before, here):
                write_line(file, to_json(each))
        return [*before, here]

    def phase(self, text: str) -> None:
        """Ignored: the stages of the set-up are not recorded."""

    def step(self, rank: int, stats: StepStats) -> None:
        """Write one line of steps.jsonl."""
        figures = Step(node=rank, **vars(stats))
        self.stats[rank].add(figures)
        self.missing += len(stats.missing)
        write_line(self._steps, to_json(figures))
        self._tell_wait()

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Write snapshots/step-…/node-….safetensors, whole or not at all."""
        folder = self.folder / "snapshots" / f"step-{step:06d}"
        metadata = {"step": str(step), "t_s": repr(t_s), "bytes": str(codec_bytes)}
        data = save({"x": x.detach().cpu().contiguous()}, metadata)  # save_file's errors have no number

        def write() -> None:
            folder.mkdir(exist_ok=True)
            with whole_file(folder / f"node-{rank}.safetensors", durable=True) as partial:
                partial.write_bytes(data)

        self.disk.write(write)
        self._tell_wait()
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Write checkpoints/step-…/node-….safetensors, after all lines up to then are safe from a power cut."""
        for file in (self._steps, self._links):
            self.disk.write(lambda file=file: os.fsync(file.fileno()))  # type: ignore[misc]
        self.disk.write(lambda: self._checkpoints.put(rank, step, data))
        self._tell_wait()

    def links(self, line: dict[str, Any]) -> None:
        """Write one line of links.jsonl."""
        self._note(line)
        line = self._totals.grown(line)
        write_line(self._links, line)
        self._tell_wait()

    def _note(self, line: dict[str, Any]) -> None:
        if line.get("event") == NODE_LOST:
            self.lost[line["node"]] = line["reason"]
        elif line.get("event") == NODE_RETURNED:
            self.lost[line["node"]] += f"; it was back at {line['t_s']:.1f} s, after step {line['step']}"
        elif line.get("event") == NODE_JOINED:
            self._begin_late(line)

    def _begin_late(self, line: dict[str, Any]) -> None:
        """A node has joined: its first step begins now, and no peer's mix has lacked its messages before."""
        self.stats[line["node"]].t_s = line["t_s"]
        for node in self.stats.values():
            if (before := node.missing.pop(line["node"], None)) is not None:
                self.missing -= before.count

    def _tell_wait(self) -> None:
        """Record a wait for space while real nodes trained, which a resumed run's summary tells again."""
        waited_s, self._told_wait_s = self.disk.waited_s - self._told_wait_s, self.disk.waited_s
        if waited_s and not self._modelled:
            t_s = max(node.t_s for node in self.stats.values())
            write_line(self._links, to_json(LinkEvent(t_s=t_s, event=_DISK_FULL, detail=disk_was_full(waited_s))))

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """Count a refusal by its reason."""
        self.refusals[verdict] += 1

    def certificate(self, certificate: Certificate) -> None:
        """Write certificate.json, safe from a power cut; called again when the run adds to it."""
        record = to_json(records.Certificate.of(certificate, self._modelled))
        self.disk.write(lambda: write_json(self.folder / "certificate.json", record, durable=True))

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the run's folder, whole or not at all."""
        self.disk.write(lambda: write_json(self.folder / name, value))

    def close(self) -> None:
        """Close the line files."""
        self._steps.close()
        self._links.close()

    def total(self, layer: str, finished: dict[tuple[int, str], int]) -> int:
        """Bytes sent in a layer: the final counts of nodes that finished, and the sums of lines of those that did
        not.
        """
        return sum(
            finished[rank, layer] + self._before[rank, layer]
            if (rank, layer) in finished
            else int(node.sums[f"{layer}_bytes"])
            for rank, node in self.stats.items()
        )

    def step_times(self) -> list[float]:
        """Seconds of every step of every node."""
        return [duration_s for node in self.stats.values() for duration_s in node.durations_s]

    def per_step(self, field: str) -> float:
        """Median over nodes of a StepStats field's mean a step (means: an exchange may come every few steps)."""
        means = [node.mean(field) for node in self.stats.values() if node.count]
        return median(means) if means else 0.0


class _Totals:
    """Byte totals of the nodes' interfaces over a whole run, although a resumed run's counters restart at zero."""

    def __init__(self, kept: list[dict[str, Any]]) -> None:
        self._last = {(line["node"], name): line[name] for line in kept for name in _TOTALS if name in line}
        self._offset: dict[tuple[int, str], int] = {}

    def grown(self, line: dict[str, Any]) -> dict[str, Any]:
        """The line with its totals continued from the kept ones."""
        changed = {}
        for name in _TOTALS:
            if (line.get("node"), name) in self._last and name in line:
                key = line["node"], name
                changed[name] = line[name] + self._offset.setdefault(key, self._last[key] - line[name])
        return {**line, **changed}


def disk_was_full(waited_s: float) -> str:
    """Why a run of real nodes that waited for space is not trusted."""
    return f"the disk was full for {waited_s:.0f} s, in which nothing could end the training"


def _waits(links: Path) -> list[str]:
    """The waits for space that were recorded in links.jsonl, in words."""
    found = lines(links, [], cut_allowed=True)
    return [str(line.get("detail")) for _, line in found if line.get("event") == _DISK_FULL]


def now() -> str:
    """The time of day, in the format of run folders."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _kept(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The wanted lines of a .jsonl file, which then has no others. A line cut short by a crash is dropped."""
    kept = []
    for text in check_regular(path).read_bytes().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if wanted(line):
            kept.append(line)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for line in kept:
            write_line(file, line)
    return kept


def write_line(file: IO[str] | LineFile, line: dict[str, Any]) -> None:
    """One JSON object, one line."""
    file.write(json.dumps(line, separators=(",", ":")) + "\n")


def write_json(path: Path, value: Any, durable: bool = False) -> None:
    """A JSON file, written whole or not at all; `durable`: see whole_file."""
    with whole_file(path, durable) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_yaml(path: Path, value: Any) -> None:
    """A YAML file in the order of the value's keys; multi-line texts are written as blocks."""
    text = yaml12.dump(value)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
