"""Runs specs: from a RunSpec to a job for a fabric, and from what came back to a ledger with a summary."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from gannet.experiment.costs import bound_of, computing_s, hidden_per_step_s, missed_pace
from gannet.experiment.resume import gone_on
from gannet.fabrics.job import Fabric, Job, Outcome, Sink, mesh_plans
from gannet.fabrics.session.deadlines import limits_over_time, with_room_for_operators, with_turns
from gannet.ledger.data_fingerprint import data_of
from gannet.ledger.writer import Ledger, now, write_json, write_yaml
from gannet.netem.measure.certificate import Certificate
from gannet.node.config import NodeConfig
from gannet.node.methods.registry import GOSSIPS
from gannet.node.players.config import parts_of
from gannet.node.tasks import build_sampler
from gannet.node.topologies.topology import Topology, consensus_rate
from gannet.node.traffic.exchange import Traffic, parcel_bytes
from gannet.node.traffic.players import bytes_per_step, traffic_by_player
from gannet.node.training.worker import StepStats
from gannet.scores.score_run import AnyScorer, comparable, score_run, scorer_for
from gannet.spec.run_spec import Comparison, RunSpec

# A gradient may take this long on a crowded host before its node counts as dead: so many times its pace,
# or seconds where it has none.
_SLOWEST_GRADIENT_PACES, _SLOWEST_GRADIENT_S = 10, 3.0


class Display(Sink, Protocol):
    """A Sink that people watch; also told which run it is and how scoring goes."""

    def begin(self, spec: RunSpec, number: int, of: int) -> None: ...

    def named(self, run: str) -> None:
        """The run's name, as the nodes have it in their metrics."""
        ...

    def end(self, summary: dict[str, Any]) -> None: ...


class Tee:
    """A Sink that passes everything on to several."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def phase(self, text: str) -> None:
        for sink in self._sinks:
            sink.phase(text)

    def step(self, rank: int, stats: StepStats) -> None:
        for sink in self._sinks:
            sink.step(rank, stats)

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        reached = [sink.snapshot(rank, step, t_s, codec_bytes, x) for sink in self._sinks]
        return any(reached)

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        for sink in self._sinks:
            sink.checkpoint(rank, step, data)

    def links(self, line: dict[str, Any]) -> None:
        for sink in self._sinks:
            sink.links(line)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        for sink in self._sinks:
            sink.refused(sender, receiver, verdict, detail)

    def certificate(self, certificate: Certificate) -> None:
        for sink in self._sinks:
            sink.certificate(certificate)


class DisplayTee(Tee):
    """A Display that passes everything on to several."""

    def __init__(self, *displays: Display) -> None:
        super().__init__(*displays)
        self._displays = displays

    def begin(self, spec: RunSpec, number: int, of: int) -> None:
        for display in self._displays:
            display.begin(spec, number, of)

    def named(self, run: str) -> None:
        for display in self._displays:
            display.named(run)

    def end(self, summary: dict[str, Any]) -> None:
        for display in self._displays:
            display.end(summary)


class ScoreGoal:
    """A Sink that scores the nodes' average as soon as a snapshot is whole, and says when it is good enough.

    It works in the driver's process; the training clocks of the nodes do not stop for it, but on a
    crowded host it takes their processor time. Only runs with `stop: {score: …}` have one.
    """

    def __init__(self, spec: RunSpec) -> None:
        assert spec.stop.score is not None
        settings = spec.score
        self._goal, self._world = spec.stop.score, spec.nodes
        self._samples = settings.samples if settings else 1000
        features = settings.features if settings else "auto"
        self._scorer = scorer_for(spec.task, spec.data, self._samples, features=features)
        self._task, self._algorithm = build_sampler(spec.task, spec.data), spec.algorithm.name
        self._parts: dict[int, dict[int, Tensor]] = {}

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None: ...

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...

    def links(self, line: dict[str, Any]) -> None: ...

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None: ...

    def certificate(self, certificate: Certificate) -> None: ...

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Whether the average of this step's snapshots reaches the goal."""
        parts = self._parts.setdefault(step, {})
        parts[rank] = x
        if len(parts) < self._world:
            return False
        del self._parts[step]
        average = comparable(parts, self._task.players, self._algorithm).mean(0)
        return self._scorer.judge(self._task, average)[0].value <= self._goal


def job_of(spec: RunSpec) -> Job:
    """What the fabric is given for this run."""
    links, changes = spec.links_over_time
    states = [(0.0, links), *((change.at_s, change.links) for change in changes)]
    planned = [(at_s, mesh_plans(state, spec.nodes, spec.seed)) for at_s, state in states]
    sampler = build_sampler(spec.task, spec.data)
    pace_ms = max([spec.pace_ms or 0.0, *spec.node_pace_ms.values()])
    gradient_s = _SLOWEST_GRADIENT_PACES * pace_ms / 1000 if pace_ms else _SLOWEST_GRADIENT_S
    steps = max(
        max(getattr(part.algorithm, "every", 1), getattr(part.algorithm, "local_steps", 1)) for part in spec.methods
    )
    compute_s = steps * gradient_s
    config = NodeConfig(
        run=f"{spec.name}/{spec.arm}/seed-{spec.seed}/{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        arm=spec.arm,
        **{name: getattr(spec, name) for name in _PASSED_ON},
        max_steps=spec.stop.steps,
    )
    size = parcel_bytes(config, sampler.layout)
    limits = with_turns(limits_over_time(planned, size, spec.nodes, compute_s), planned, size, compute_s)
    limits = limits if spec.fabric == "virtual" else with_room_for_operators(limits)
    config = config.model_copy(update={"exchange": limits})
    engine = None if spec.engine == "auto" else spec.engine
    stop_s = spec.stop.seconds
    return Job(config, spec.nodes, links, changes, stop_s, engine, spec.seed, size, compute_s, spec.links.stack)


_PASSED_ON = (
    "seed", "task", "data", "optimizer", "algorithm", "topology", "codec", "players", "batch", "device", "threads",
    "pace_ms", "node_pace_ms", "snapshot_every", "checkpoint_every",
)  # fmt: skip


def run_one(
    spec: RunSpec, folder: Path, fabric: Fabric, display: Display | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train one run into `folder`; returns its summary, which is also in summary.json. Scoring comes after.

    `resume`: go on with the run that is there from its last checkpoints. Raises ValueError when they are not its own.
    """
    whole, data = job_of(spec), data_of(spec)
    job = gone_on(whole, folder) if resume else whole
    if display is not None:
        display.named(job.config.run)
        if job.resumed is not None:
            display.phase(f"going on after step {job.resumed.step}, {job.begin_s:.1f} s of training")
    ledger = Ledger(folder, spec, job.resumed)
    sinks: list[Sink] = [ledger, *([display] if display else [])]
    if spec.stop.score is not None:
        sinks.append(ScoreGoal(spec))
    try:
        outcome = fabric(job, Tee(*sinks))
    except KeyboardInterrupt:
        outcome = Outcome("stopped", "interrupted by the user")
    finally:
        ledger.close()
    if outcome.certificate is not None:
        ledger.certificate(outcome.certificate)
    here = environment() | outcome.environment | {"fabric": spec.fabric, "data": data}
    write_json(folder / "environment.json", here)
    summary = summarise_run(spec, whole, ledger, outcome)
    write_json(folder / "summary.json", summary)
    return summary


def summarise_run(spec: RunSpec, job: Job, ledger: Ledger, outcome: Outcome) -> dict[str, Any]:
    """The summary of a run whose ledger is whole; scores are added once they are known."""
    sampler = build_sampler(spec.task, spec.data)
    traffics = traffic_by_player(job.config, spec.nodes, sampler.layout)
    step_s, stats = ledger.step_times(), ledger.stats
    reasons = [] if outcome.certificate is None else list(outcome.certificate.reasons)
    if outcome.status == "failed":
        reasons.append(f"the run failed: {outcome.reason}")
    reasons += [f"node {rank} was lost: {why}" for rank, why in sorted(outcome.lost.items())]
    if ledger.missing and not outcome.lost:
        reasons.append(f"{ledger.missing} parcels were missing from mixes though no node was lost")
    reasons += [f"before step {was['step']}: {reason}" for was in ledger.resumed for reason in was["reasons_before"]]
    compute_s = ledger.per_step("compute_s")
    if spec.fabric != "virtual":
        reasons += missed_pace(spec, ledger)
    mixes = not spec.players and spec.algorithm.name in GOSSIPS
    steps = max((entries[-1].step for entries in stats.values() if entries), default=0)
    gap = round(1 - consensus_rate(Topology(spec.topology, spec.nodes)), 4) if mixes else None
    return {
        "arm": spec.arm,
        "label": spec.title,
        "seed": spec.seed,
        "status": outcome.status,
        "reason": outcome.reason or "; ".join(f"lost node {r}: {why}" for r, why in sorted(outcome.lost.items())),
        "nodes": spec.nodes,
        "algorithm": spec.algorithm.name,
        "codec": spec.codec,
        "players": facts_of_players(spec, traffics),
        "links": spec.links.describe(),
        "topology": {"name": str(spec.topology), "spectral_gap": gap} if mixes else None,
        "parameters": sampler.size,
        "steps": steps,
        **({"resumed_after": [was["step"] for was in ledger.resumed]} if ledger.resumed else {}),
        "seconds": max((entries[-1].t_s for entries in stats.values() if entries), default=0.0),
        "setup_s": outcome.setup_s,
        "step_s": {
            "median": median(step_s) if step_s else 0.0,
            "mean": float(np.mean(step_s)) if step_s else 0.0,
            "p95": float(np.percentile(step_s, 95)) if step_s else 0.0,
        },
        "compute_s": compute_s,
        "wait_s": ledger.per_step("wait_s"),
        "other_s": ledger.per_step("other_s"),
        "hidden_s": hidden_per_step_s(ledger, job),
        "lower_bound_s": bound_of(spec, traffics, job, computing_s(spec, ledger), steps),
        **{f"bytes_{layer}": ledger.total(layer, outcome.sent_bytes) for layer in ("codec", "grpc", "interface")},
        "missing_parcels": ledger.missing,
        "refused": dict(ledger.refusals),
        "memory_mb": [round(outcome.memory_mb.get(rank, 0.0), 1) for rank in range(spec.nodes)],
        "trusted": outcome.status == "finished" and not reasons,
        "reasons": reasons,
        "final_score": None,
        "best_score": None,
    }


def facts_of_players(spec: RunSpec, traffics: Mapping[str, Traffic]) -> dict[str, dict[str, Any]]:
    """How each player was exchanged, where each was in its own way; `bytes_per_step` of all nodes, as computed."""
    if not spec.players:
        return {}
    return {
        player: {
            "algorithm": part.algorithm.name,
            "every": traffics[player].every,
            "topology": str(part.topology) if part.algorithm.name in GOSSIPS else None,
            "codec": part.codec,
            "bytes_per_step": bytes_per_step(traffics[player]),
        }
        for player, part in parts_of(spec, traffics).items()
    }


def add_scores(
    spec: RunSpec,
    folder: Path,
    summary: dict[str, Any],
    scorer: AnyScorer,
    progress: Callable[[int, int], None],
) -> None:
    """Score the run's snapshots, off the clock, and put the figures into its summary."""
    if spec.score is None or not any((folder / "snapshots").iterdir()):
        return
    summary["score_shortfalls"] = list(scorer.shortfalls)
    lines = score_run(folder, spec.task, scorer, spec.score.points, progress, spec.algorithm.name)
    if lines:
        summary["final_score"] = lines[-1]["score"]
        summary["best_score"] = min((s for line in lines if (s := line["score"]) is not None), default=None)
        summary["score_name"] = lines[-1]["score_name"]
        write_json(folder / "summary.json", summary)


def environment() -> dict[str, Any]:
    """The machine and the versions that a run depends on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    return {
        "host": {
            "cpus": len(os.sched_getaffinity(0)),
            "cpu": model,
            "kernel": platform.release(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        },
        "versions": {
            "gannet": version("gannet-testbed"),
            "python": platform.python_version(),
            "torch": version("torch"),
            "grpc": version("grpcio"),
        },
        "written": now(),
    }


def begin_comparison(comparison: Comparison, folder: Path) -> None:
    """The comparison's own folder, with every arm's whole spec."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    write_yaml(folder / "spec.yaml", comparison.whole())
