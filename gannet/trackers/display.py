"""Trackers during a run: a Display that passes figures on to them, in a thread of their own.

What they raise, and how long they take, is no matter of training's: an error is told once, and ends that tracker
alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import isnan
from pathlib import Path
from typing import Any

from torch import Tensor

from gannet.ledger.reader import Run, read_run
from gannet.ledger.records import Summary
from gannet.metrics.consensus import Consensus, Snapshot
from gannet.netem.measure.certificate import Certificate
from gannet.node.tasks import build_sampler
from gannet.node.training.meter import StepStats
from gannet.spec.run_spec import RunSpec
from gannet.trackers.base import TrackedRun, Tracker, flat
from gannet.trackers.figures import Figures, StepFigures, consensus_figures, score_figures
from gannet.trackers.opening import open_tracker

FOLDER = "logs"
_WAITING = 100_000  # records of a tracker that is slower than training; more are dropped, and that is told
_LEAVE_S = 60.0  # for a tracker to write what is left


class OneTracker:
    """One tracker of one run, in a thread of its own. `tell` receives one sentence, at most, of what went wrong."""

    def __init__(self, kind: str, run: TrackedRun, offline: bool, tell: Callable[[str], None]) -> None:
        self._kind, self._run, self._tell = kind, run, tell
        self._todo: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_WAITING)
        self._failed = False
        self.where = ""
        self._thread = threading.Thread(target=self._work, args=(offline,), name=f"tracker-{kind}", daemon=True)
        self._thread.start()

    def do(self, what: Callable[[Tracker], None]) -> None:
        """Have it done, later."""
        if not self._failed:
            try:
                self._todo.put_nowait(what)
            except queue.Full:
                self._fail("it is slower than training")

    def end(self, status: str) -> None:
        """Write what is left and close, within a minute."""
        self.do(lambda tracker: tracker.end(status))
        if not self._failed:
            with suppress(queue.Full):
                self._todo.put(None, timeout=_LEAVE_S)
            self._thread.join(_LEAVE_S)
            if self._thread.is_alive():
                self._fail(f"it has not ended for {_LEAVE_S:.0f} s")

    def _work(self, offline: bool) -> None:
        try:
            tracker = open_tracker(self._kind, self._run, offline)
            self.where = tracker.where
            while (what := self._todo.get()) is not None:
                what(tracker)
        except BaseException as error:  # a tracker may call sys.exit, too
            self._fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            self._tell(f"{self._kind}: {self._run.name} is not logged further, and training continues: {why}")


class Trackers:
    """A Display of all runs of a command, for trackers of these kinds. `folder`: of the comparison."""

    def __init__(
        self, kinds: Sequence[str], folder: Path, tell: Callable[[str], None], offline: bool = False
    ) -> None:
        self._kinds, self._folder, self._tell, self._offline = tuple(kinds), folder, tell, offline
        self._of: dict[tuple[str, int], list[OneTracker]] = {}
        self._status: dict[tuple[str, int], str] = {}
        self._now: list[OneTracker] = []
        self._steps = StepFigures(0)

    def begin(self, spec: RunSpec, number: int, of: int) -> None:
        """Open the run's trackers."""
        run = TrackedRun(
            spec.name, f"{spec.arm}/seed-{spec.seed}", self._folder / FOLDER, flat(spec.model_dump(mode="json"))
        )
        sampler = build_sampler(spec.task, spec.data)
        self._consensus = Consensus(spec.nodes, sampler.players, spec.algorithm.traits.worker_player)
        self._steps = StepFigures(spec.nodes)
        self._now = [OneTracker(kind, run, self._offline, self._tell) for kind in self._kinds]
        self._of[spec.arm, spec.seed] = self._now
        self._status[spec.arm, spec.seed] = "failed"

    def named(self, run: str) -> None:
        """Ignored: the name is for metrics."""

    def end(self, summary: Summary) -> None:
        """Log what is left of its steps; scores are logged once they are known."""
        self._log(self._steps.rest())
        self._status[summary.arm or "", summary.seed or 0] = summary.status

    def phase(self, text: str) -> None:
        """Ignored."""

    def step(self, rank: int, stats: StepStats) -> None:
        """Log the steps that all nodes have made."""
        self._log(self._steps.add(rank, stats))
        self._compare(self._consensus.miss(stats.missing))

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Log the consensus distance of each player once all nodes' snapshots of a step have come."""
        self._compare(self._consensus.add(rank, step, t_s, x))
        return False

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Ignored."""

    def links(self, line: Mapping[str, Any]) -> None:
        """Ignored."""

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """Ignored."""

    def certificate(self, certificate: Certificate) -> None:
        """Ignored."""

    def close(self) -> None:
        """Log scores and pictures of all runs, after they have been scored, and close."""
        for (arm, seed), trackers in self._of.items():
            try:
                log_scores(read_run(self._folder / arm / f"seed-{seed}"), trackers)
            except (OSError, ValueError) as error:
                self._tell(f"scores of {arm}, seed {seed}, are not logged: {error}")
        for run, trackers in self._of.items():
            for tracker in trackers:
                tracker.end(self._status[run])
        for where in dict.fromkeys(one.where for trackers in self._of.values() for one in trackers if one.where):
            self._tell(f"logged: {where}")
        self._of.clear()

    def _compare(self, found: Iterable[Snapshot]) -> None:
        for at in found:
            finite = {player: None if isnan(distance) else distance for player, (distance, _) in at.players.items()}
            self._log([Figures(at.step, at.t_s, consensus_figures(finite))])

    def _log(self, found: Iterable[Figures]) -> None:
        for figures in found:
            for tracker in self._now:
                tracker.do(lambda to, f=figures: to.figures(*f))  # type: ignore[misc]


def log_scores(run: Run, trackers: Sequence[OneTracker], consensus: bool = False) -> None:
    """Scores and pictures of a run that has been scored, and its recorded consensus distances if wanted."""
    for figures in score_figures(run.scores, consensus):
        for tracker in trackers:
            tracker.do(lambda to, f=figures: to.figures(*f))  # type: ignore[misc]
    for image in run.images:
        for tracker in trackers:
            tracker.do(lambda to, i=image: to.picture(i.step, i.t_s or 0.0, i.path))  # type: ignore[misc]


def log_folder(runs: Sequence[Run], kinds: Sequence[str], folder: Path, tell: Callable[[str], None]) -> bool:
    """Log runs that have ended, from their records. True: all of them were logged."""
    complaints: list[str] = []
    where: list[str] = []

    def complain(text: str) -> None:
        complaints.append(text)
        tell(text.replace(", and training continues", ""))

    for run in runs:
        name, steps = f"{run.arm}/seed-{run.seed}", StepFigures(run.summary.nodes or 1)
        comparison = str(run.spec.get("name") or folder.name)
        tracked = TrackedRun(comparison, name, folder / FOLDER, flat(run.spec))
        trackers = [OneTracker(kind, tracked, False, complain) for kind in kinds]
        found = [figures for step in run.steps for figures in steps.add(step.node, step)]
        for figures in (*found, *steps.rest()):
            for tracker in trackers:
                tracker.do(lambda to, f=figures: to.figures(*f))  # type: ignore[misc]
        log_scores(run, trackers, consensus=True)
        for tracker in trackers:
            tracker.end(run.summary.status)
        where += [tracker.where for tracker in trackers if tracker.where]
    for text in dict.fromkeys(where):
        tell(f"logged: {text}")
    return not complaints
