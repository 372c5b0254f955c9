"""Runs on the virtual fabric that are interrupted, and what they left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gannet.experiment.runner import run_one
from gannet.experiment.sinks import Tee
from gannet.fabrics.job import Job, Outcome, Sink
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.node.training.meter import StepStats
from gannet.spec.load import resolve
from gannet.spec.run_spec import ComparisonSpec, RunSpec

SPEC: dict[str, Any] = {
    "name": "quick",
    "fabric": "virtual",
    "nodes": 3,
    "task": {"name": "game", "dimension": 6, "noise": 0.1},
    "links": {"profile": {"rate": "1Mbit", "delay_ms": 5}},
    "pace_ms": 10,
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 40},
    "snapshot_every": 5,
    "checkpoint_every": 4,
    "score": None,
}


def comparison(**changes: Any) -> ComparisonSpec:
    return resolve({**SPEC, **changes}, "quick.yaml")


class Crash(Exception):
    """The end of a process, as far as its ledger can tell."""


class Doom:
    """A fabric whose run ends when node 1 has made that step."""

    def __init__(self, step: int, how: type[BaseException] = Crash) -> None:
        self._step, self._how = step, how

    def __call__(self, job: Job, sink: Sink) -> Outcome:
        doom = self

        class Doomed(Tee):
            def step(self, rank: int, stats: StepStats) -> None:
                super().step(rank, stats)
                if rank == 1 and stats.step == doom._step:
                    raise doom._how

        return run_virtual(job, Doomed(sink))


def interrupted(spec: RunSpec, run: Path, step: int = 23) -> None:
    """A run that crashed in the middle of writing a line."""
    with pytest.raises(Crash):
        run_one(spec, run, Doom(step))
    with (run / "steps.jsonl").open("a") as file:
        file.write('{"node": 0, "st')


def lines(run: Path, name: str = "steps.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def snapshots(run: Path) -> dict[str, bytes]:
    """Their numbers; the clock beside them is compared elsewhere."""
    found = sorted((run / "snapshots").glob("*/*.safetensors"))
    return {f"{p.parent.name}/{p.name}": p.read_bytes().partition(b"}}")[2] for p in found}


def by_node(found: list[dict[str, Any]], *fields: str) -> list[list[Any]]:
    return sorted([line["node"], line["step"], *(line[name] for name in fields)] for line in found)
