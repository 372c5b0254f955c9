"""The ledger: one folder a run, written line by line while the run goes on, so that nothing is lost.

spec.yaml environment.json certificate.json steps.jsonl links.jsonl snapshots/ summary.json
(after scoring: scores.jsonl images/)
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import IO, Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from experiment.spec import RunSpec
from netem.certificate import Certificate
from node.worker import StepStats


class Ledger:
    """A Sink that keeps a run's news in its folder and the sums that its summary needs."""

    def __init__(self, folder: Path, spec: RunSpec) -> None:
        if (folder / "steps.jsonl").exists():
            raise FileExistsError(f"{folder} holds a run already: choose another folder, or remove it")
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._modelled = spec.fabric == "virtual"
        self._steps = (folder / "steps.jsonl").open("w", encoding="utf-8", buffering=1)
        self._links = (folder / "links.jsonl").open("w", encoding="utf-8", buffering=1)
        self.refusals: Counter[str] = Counter()
        self.missing = 0
        self.stats: dict[int, list[StepStats]] = {rank: [] for rank in range(spec.nodes)}
        self.link_lines: list[dict[str, Any]] = []
        write_yaml(folder / "spec.yaml", spec.model_dump(mode="json"))

    def phase(self, text: str) -> None:
        """Nothing is kept of how far the set-up is."""

    def step(self, rank: int, stats: StepStats) -> None:
        """One line of steps.jsonl."""
        self.stats[rank].append(stats)
        self.missing += len(stats.missing)
        write_line(
            self._steps,
            {
                "node": rank,
                "step": stats.step,
                "t_s": stats.t_s,
                "loss": stats.losses,
                "compute_s": stats.compute_s,
                "wait_s": stats.wait_s,
                "other_s": stats.other_s,
                "codec_bytes": stats.codec_bytes,
                "grpc_bytes": stats.grpc_bytes,
                "interface_bytes": stats.interface_bytes,
                "missing": list(stats.missing),
            },
        )

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """snapshots/step-…/node-….safetensors, written whole or not at all."""
        folder = self.folder / "snapshots" / f"step-{step:06d}"
        folder.mkdir(exist_ok=True)
        final = folder / f"node-{rank}.safetensors"
        partial = final.with_suffix(".partial")
        metadata = {"step": str(step), "t_s": repr(t_s), "bytes": str(codec_bytes)}
        save_file({"x": x.detach().cpu().contiguous()}, partial, metadata)
        partial.replace(final)
        return False

    def links(self, line: dict[str, Any]) -> None:
        """One line of links.jsonl."""
        self.link_lines.append(line)
        write_line(self._links, line)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """Count a refusal by its reason."""
        self.refusals[verdict] += 1

    def certificate(self, certificate: Certificate) -> None:
        """certificate.json; written again when the run adds to it."""
        write_json(self.folder / "certificate.json", certificate.to_json() | {"model": self._modelled})

    def close(self) -> None:
        """Close the line files."""
        self._steps.close()
        self._links.close()

    def total(self, layer: str, finished: dict[tuple[int, str], int]) -> int:
        """Bytes sent in a layer: what finished nodes counted to the end, and the lines of those that did not."""
        return sum(
            finished[rank, layer]
            if (rank, layer) in finished
            else sum(getattr(entry, f"{layer}_bytes") for entry in entries)
            for rank, entries in self.stats.items()
        )

    def step_times(self) -> list[float]:
        """Seconds of every step of every node."""
        times = []
        for stats in self.stats.values():
            before = 0.0
            for entry in stats:
                times.append(entry.t_s - before)
                before = entry.t_s
        return times

    def per_step(self, field: str) -> float:
        """Median over nodes of a StepStats field's mean a step (means: an exchange may come every few steps)."""
        means = [sum(getattr(entry, field) for entry in stats) / len(stats) for stats in self.stats.values() if stats]
        return median(means) if means else 0.0


def write_line(file: IO[str], line: dict[str, Any]) -> None:
    """One JSON object, one line."""
    file.write(json.dumps(line, separators=(",", ":")) + "\n")


def write_json(path: Path, value: Any) -> None:
    """A JSON file, written whole or not at all."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def write_yaml(path: Path, value: Any) -> None:
    """A YAML file in the order of the value's keys."""
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
