"""Sinks of a run: they write, show, and watch for a score while nodes train."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from gannet.fabrics.job import NODE_JOINED, NODE_LOST, NODE_RETURNED, Sink
from gannet.ledger.records import Summary
from gannet.ledger.snapshots import comparable
from gannet.netem.measure.certificate import Certificate
from gannet.node.tasks import build_sampler
from gannet.node.training.meter import StepStats
from gannet.scores.scorer import scorer_for
from gannet.spec.run_spec import RunSpec


class Display(Sink, Protocol):
    """A Sink that people watch; it also receives the run's identity and the progress of scoring."""

    def begin(self, spec: RunSpec, number: int, of: int) -> None: ...

    def named(self, run: str) -> None:
        """Take the run's name, as it is in the nodes' metrics."""
        ...

    def end(self, summary: Summary) -> None: ...


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

    def end(self, summary: Summary) -> None:
        for display in self._displays:
            display.end(summary)


class ScoreGoal:
    """A Sink that scores the nodes' average as soon as a snapshot is complete, and reports when the goal is reached.

    A snapshot is complete when all nodes that have joined and are not lost have deposited it. Each node's come in
    order, so those of earlier steps are not kept once one is complete.

    It works in the driver's process; the nodes' training clocks do not stop for it, but on a crowded host it competes
    for processor time. Only runs with `stop: {score: …}` have one.
    """

    def __init__(self, spec: RunSpec) -> None:
        assert spec.stop.score is not None
        settings = spec.score
        self._goal, self._awaited = spec.stop.score, set(range(spec.nodes)) - spec.join_at_s.keys()
        self._samples = settings.samples if settings else 1000
        features = settings.features if settings else "auto"
        self._scorer = scorer_for(spec.task, spec.data, self._samples, features=features)
        self._task, self._worker_player = build_sampler(spec.task, spec.data), spec.algorithm.traits.worker_player
        self._parts: dict[int, dict[int, Tensor]] = {}

    def phase(self, text: str) -> None: ...

    def step(self, rank: int, stats: StepStats) -> None: ...

    def checkpoint(self, rank: int, step: int, data: bytes) -> None: ...

    def links(self, line: dict[str, Any]) -> None:
        """A lost node's snapshots are no longer waited for, until it is back."""
        if line.get("event") == NODE_LOST:
            self._awaited.discard(line["node"])
        elif line.get("event") in (NODE_JOINED, NODE_RETURNED):
            self._awaited.add(line["node"])

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None: ...

    def certificate(self, certificate: Certificate) -> None: ...

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Whether the average of the latest complete step's snapshots reaches the goal."""
        self._parts.setdefault(step, {})[rank] = x
        complete = max((at for at, parts in self._parts.items() if self._awaited <= parts.keys()), default=None)
        if complete is None:
            return False
        parts = self._parts[complete]
        self._parts = {at: later for at, later in self._parts.items() if at > complete}
        average = comparable(parts, self._task.players, self._worker_player).mean(0)
        if not average.isfinite().all():  # it has diverged, or rank 0 is lost and had the generator
            return False
        return self._scorer.judge(self._task, average)[0].value <= self._goal
