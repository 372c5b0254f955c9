"""Reads the link agents' counters once a second during a run, and judges the links by them.

Each reading becomes a line of the run folder. Two in a row are judged (gannet.netem.measure.bad_intervals). Intervals
in which an agent found its links changed by another program, and repaired them, are recorded too, and a run with one
is not trusted.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from functools import partial
from math import inf
from typing import Any

from gannet.fabrics.links.agent_pool import AgentPool
from gannet.netem.agent.client import AgentError, AgentGone
from gannet.netem.measure.bad_intervals import (
    BadWindow,
    bad_windows,
    clock_drift_ppm,
    describe_windows,
    drift_reasons,
    run_reasons,
)
from gannet.netem.process import clock_name

_ENGINE_COUNTS = ("released", "late", "overruns", "refused_verdicts")
_TOTALS = ("tx_bytes", "rx_bytes")
_TCP_COUNTS = {"tcp_sent": "segments", "tcp_retransmitted": "retransmitted"}
# An answer that took longer does not show well enough when the agent read its clock.
_CLOCK_ANSWER_NS = 20_000_000
_LAST_READING_S = 10.0
_STRANGERS_S = 60.0

Lines = queue.SimpleQueue[dict[str, Any] | Exception]


class LinkMonitor:
    """Reads all agents of `pool`; puts lines, in which `rank_of` turns addresses into ranks, into `lines`.

    `edges`: the directed links that training uses. `now_s`: the training clock.
    """

    def __init__(
        self,
        pool: AgentPool,
        rank_of: Mapping[str, int],
        edges: Collection[tuple[int, int]],
        lines: Lines,
        now_s: Callable[[], float],
    ) -> None:
        self._pool, self._rank_of, self._edges, self._lines, self._now_s = pool, rank_of, set(edges), lines, now_s
        self._totals: list[Counter[str]] = [Counter() for _ in range(len(pool))]
        self._last: dict[int, tuple[float, dict[str, Any]]] = {}  # time and content of the last reading
        self._clocks: dict[int, list[tuple[int, int]]] = {}  # ours and theirs, ns, of agents on another clock
        self._windows: list[BadWindow] = []
        self._repaired: list[BadWindow] = []
        self._broken: dict[int, tuple[float, str]] = {}  # since when, and what is wrong
        self._strangers: dict[int, tuple[int, float]] = {}  # packets told of, and when
        self._counted: dict[tuple[int, str], tuple[int, int]] = {}  # last reading of a total, and what went before it
        self._pending: dict[int, Future[None]] = {}

    def begin(self, clocks: Mapping[int, str]) -> None:
        """Count from here. `clocks`: the names of the agents' clocks, see gannet.netem.process.clock_name."""
        own = clock_name()
        self._clocks = {rank: [] for rank, name in clocks.items() if name != own}
        for rank, answer in self._pool.ask_all("counters").items():
            if isinstance(answer, dict):
                self._last[rank] = 0.0, answer
                self._tell_repairs(rank, answer, 0.0)

    def read(self) -> None:
        """Have every agent's counters read, except where the last answer is still awaited."""
        for rank in self._pool.present():
            if rank not in self._pending or self._pending[rank].done():
                self._pending[rank] = self._pool.submit(partial(self._read_one, rank))

    def finish(self) -> None:
        """Take a last reading of all agents, and close the intervals of links that are still broken."""
        wait(self._pending.values(), _LAST_READING_S)
        self.read()
        wait(self._pending.values(), _LAST_READING_S)
        for rank, (t_s, counters) in self._last.items():
            self._tell_strangers(rank, counters.get("strangers", 0), t_s, last=True)
        for rank, (from_s, what) in self._broken.items():
            self._tell_window(BadWindow(rank, from_s, max(from_s, self._now_s()), what))

    def reasons(self) -> list[str]:
        """Reasons to distrust the links: the engines' counters, repairs, links still broken, and clock drift."""
        run_s = self._now_s()
        found = run_reasons(dict(enumerate(self._totals)), windows=self._windows, run_s=run_s)
        if self._repaired:
            found.append(f"another program changed links, which were repaired: {describe_windows(self._repaired)}")
        for rank, (from_s, what) in sorted(self._broken.items()):
            found.append(f"node {rank}: its links could not be kept from {from_s:.1f} s on: {what}")
        return found + drift_reasons({rank: clock_drift_ppm(points) for rank, points in self._clocks.items()})

    def _read_one(self, rank: int) -> None:
        if rank in self._pool.gone:  # since this was ordered: one that was started again may have no links yet
            return
        asked_ns = time.monotonic_ns()
        try:
            counters = self._pool.ask(rank, "counters")
        except AgentGone:
            return  # the pool has reported it
        except AgentError as error:
            self._lines.put(error)
            return
        t_s, took_ns = self._now_s(), time.monotonic_ns() - asked_ns
        if rank in self._clocks and took_ns < _CLOCK_ANSWER_NS:
            self._clocks[rank].append((asked_ns + took_ns // 2, counters["clock_ns"]))
        self._tell_repairs(rank, counters, t_s)
        if counters["broken"]:
            return
        before_s, before = self._last.get(rank, (0.0, {}))
        self._last[rank] = t_s, counters
        self._tell_strangers(rank, counters["strangers"], t_s)
        grown = _grown(before, counters)
        self._totals[rank].update({key: grown[key] for key in _ENGINE_COUNTS})
        line = {
            **link_line(counters),
            **self._going_on(rank, counters),
            **{name: grown[key] for key, name in _TCP_COUNTS.items()},
        }
        line["rtt_ms"] = {str(self._rank_of[peer]): ms for peer, ms in counters["rtt_ms"].items()}
        line["classes"] = {
            str(source): counted
            for source, counted in ((self._rank_of.get(address), c) for address, c in counters["classes"].items())
            if (source, rank) in self._edges
        }
        self._lines.put({"t_s": t_s, "node": rank, **line})
        for from_s, to_s, what in bad_windows(before, counters, before_s, t_s):
            window = BadWindow(rank, from_s, to_s, what)
            self._windows.append(window)
            self._tell_window(window)

    def _going_on(self, rank: int, counters: Mapping[str, Any]) -> dict[str, int]:
        """The byte totals of a node, which go on when its agent is started again and counts from zero."""
        totals = {}
        for name in _TOTALS:
            if name in counters:
                last, before = self._counted.get((rank, name), (0, 0))
                before += last if counters[name] < last else 0
                self._counted[rank, name] = counters[name], before
                totals[name] = before + counters[name]
        return totals

    def _tell_repairs(self, rank: int, counters: Mapping[str, Any], t_s: float) -> None:
        """Record the agent's repairs since the last reading; its clock may differ from ours."""
        ahead_s = counters["clock_ns"] / 1e9 - t_s
        for repair in counters["repairs"]:
            self._broken.pop(rank, None)
            # Repairs before training are recorded at its beginning: the run folder has no times before it.
            from_s, to_s = (max(0.0, repair[moment] - ahead_s) for moment in ("since_s", "until_s"))
            window = BadWindow(rank, from_s, to_s, repair["what"])
            self._repaired.append(window)
            self._tell_window(window)
        if (broken := counters["broken"]) is not None:
            self._broken[rank] = max(0.0, broken["since_s"] - ahead_s), broken["what"]

    def _tell_strangers(self, rank: int, packets: int, t_s: float, last: bool = False) -> None:
        """Record that packets from addresses which no node has were dropped, at most once a minute for each node, and
        at the `last` reading.
        """
        told, told_s = self._strangers.get(rank, (0, -inf))
        told = told if packets >= told else 0  # the links were built again, which counts from 0
        if packets > told and (last or t_s - told_s >= _STRANGERS_S):
            self._strangers[rank] = packets, t_s
            what = f"node {rank} dropped {packets - told} packets from addresses that no node has"
            self._lines.put({"t_s": t_s, "event": "strangers", "detail": what})

    def _tell_window(self, window: BadWindow) -> None:
        times = {"t_s": self._now_s(), "from_s": window.from_s, "to_s": window.to_s}
        self._lines.put({**times, "event": "bad-window", "node": window.node, "what": window.what})


def _grown(before: Mapping[str, Any], counters: Mapping[str, Any]) -> dict[str, int]:
    """The growth of each count since the last reading; one that has shrunk was reset to zero."""
    old, now = (
        {key: int(counted.get(key, 0)) for key in (*_ENGINE_COUNTS, *_TCP_COUNTS)} for counted in (before, counters)
    )
    return {key: count - old[key] if count >= old[key] else count for key, count in now.items()}


def link_line(counters: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's counters as the run folder has them: both directions' drops and backlog in one figure."""
    kept = {k: v for k, v in counters.items() if k in _TOTALS or k.startswith(("late_", "run_queue"))}
    return {
        **kept,
        "dropped": counters["dropped_up"] + counters["dropped_down"],
        "backlog_bytes": counters["backlog_bytes_up"] + counters["backlog_bytes_down"],
        "released": counters.get("released", 0),
    }
