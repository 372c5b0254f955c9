"""Who waits for whom in a session, who is suspected to hang for it, and who does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from gannet.fabrics.job import Job
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.silent_links import SilentLinks
from gannet.fabrics.session.hang_detector import HangDetector
from gannet.fabrics.session.wait_graph import WaitGraph


class Surroundings(Protocol):
    """The session as its waits see it."""

    alive: set[int]
    steps: dict[int, int]
    silent_links: SilentLinks
    live: LiveLinks | None

    def now_s(self) -> float:
        """The training clock."""
        ...


class Waits:
    """Takes in the nodes' reports; see gannet.fabrics.session.wait_graph."""

    def __init__(self, session: Surroundings, job: Job) -> None:
        self._session, self._patience_s = session, job.config.exchange.patience_s
        self._graph = WaitGraph()
        self._hang_detector = HangDetector(job.config.exchange, job.message_bytes, job.compute_s)

    def begin(self) -> None:
        """Training begins."""
        for rank in self._session.alive:
            self.moves(rank)

    def moves(self, rank: int) -> None:
        """A node has made a step, is gone, or is back."""
        self._graph.moves(rank, time.monotonic())

    def released(self) -> None:
        """Nodes that were held continue: what they were to agree on is named, or given up."""
        for rank in self._session.alive:
            self._graph.stood_still(rank, time.monotonic())

    def hear(self, rank: int, source: int, together: bool) -> None:
        """A node says that it waits; `together`: its step lasts long, and this may be one of many short waits."""
        session = self._session
        self._graph.waits(rank, source)
        if together:
            return
        session.silent_links.waits(rank, source, session.steps[rank] + 1, session.now_s())
        culprit = self._graph.culprit(rank)
        if culprit is not None and culprit in session.alive:
            due_s = self._graph.due_s(culprit, self._patience_s)
            self._hang_detector.add(culprit, session.steps[culprit], due_s)

    def hanging(self, held: Callable[[int], bool]) -> list[int]:
        """Nodes that others wait for and that, for a while, have neither moved nor waited, nor are `held`.

        The time follows from the present links, see gannet.fabrics.session.hang_detector.
        """
        session, detector = self._session, self._hang_detector
        assert session.live is not None
        for rank, step in detector.steps().items():
            if rank not in session.alive or session.steps[rank] > step or self._graph.waiting(rank) or held(rank):
                detector.drop(rank)
        found = detector.hanging(session.live.plans, time.monotonic())
        for rank in found:
            detector.drop(rank)
        return found
