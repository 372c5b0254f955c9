"""Judges links in use: bad intervals between two readings of a node, a whole run, and clock drift. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from gannet.netem.measure.tolerances import TOLERANCES, Tolerances

# A reading of fewer packets means little: two late ones among ten are one moment of a busy machine.
_LEAST_PACKETS = 100
# Clocks are compared over at least this long, or the answers' travel times hide the drift.
_LEAST_CLOCK_S = 20.0


@dataclass(frozen=True)
class BadWindow:
    """A stretch of the training clock in which a node's links deviated from their configuration, and how."""

    node: int
    from_s: float
    to_s: float
    what: str


def bad_windows(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    from_s: float,
    to_s: float,
    tolerances: Tolerances = TOLERANCES,
) -> list[tuple[float, float, str]]:
    """Compare two successive readings of one node (agent `counters`): the bad intervals between them.

    `from_s` and `to_s` are the times of the readings, on the training clock. Counts (`released`, `late`, `overruns`,
    `refused_verdicts`) are totals, and one that has shrunk was reset to zero; `late_…_ms` and `run_queue_ms` are
    since the reading before. Drops of a full buffer are the link's own behaviour and no fault.
    """
    released, late = _grown(before, now, "released"), _grown(before, now, "late")
    found = []
    if late > tolerances.window_late_share * max(released, _LEAST_PACKETS):
        worst = f", at most {now['late_max_ms']:.3g} ms" if "late_max_ms" in now else ""
        found.append(f"{late} of {released} packets were held over 1 ms too long{worst}")
    if lost := _grown(before, now, "overruns") + _grown(before, now, "refused_verdicts"):
        found.append(f"the link engine was overrun {lost} times and dropped packets")
    waited_ms = float(now.get("run_queue_ms", 0.0))
    if waited_ms > 1000 * tolerances.window_run_queue_share * max(1.0, to_s - from_s):
        found.append(f"the link engine waited {waited_ms:.0f} ms for a CPU")
    return [(from_s, to_s, what) for what in found]


def run_reasons(
    counters: Mapping[int, Mapping[str, Any]],
    tolerances: Tolerances = TOLERANCES,
    windows: Sequence[BadWindow] = (),
    run_s: float | None = None,
) -> list[str]:
    """Reasons to distrust the links during a run of `run_s` seconds.

    `counters`: totals over the run by rank (agent `counters`). `windows`: the bad intervals; a few of them are only
    marked in the run folder.
    """
    late, overrun = [], []
    for node, counted in sorted(counters.items()):
        released, held = counted.get("released", 0), counted.get("late", 0)
        if held > tolerances.late_packets_share * max(released, _LEAST_PACKETS):
            late.append(f"node {node}: {held} of {released}")
        if dropped := counted.get("overruns", 0) + counted.get("refused_verdicts", 0):
            overrun.append(f"node {node}: {dropped} times")
    reasons = []
    if late:
        reasons.append(f"the link engine held packets over 1 ms too long ({', '.join(late)})")
    if overrun:
        reasons.append(f"the link engine was overrun and dropped packets ({', '.join(overrun)})")
    if windows and run_s is not None:
        bad_s = _covered_s(windows)
        if bad_s > tolerances.window_time_share * run_s:
            reasons.append(
                f"links deviated from their profile for {bad_s:.1f} of {run_s:.1f} s: {describe_windows(windows)}"
            )
    return reasons


def describe_windows(windows: Sequence[BadWindow]) -> str:
    """The number of bad intervals, and the longest of them, in one phrase."""
    worst = max(windows, key=lambda window: window.to_s - window.from_s)
    count = f"{len(windows)} bad window{'s' if len(windows) != 1 else ''}"
    return f"{count}, the longest at node {worst.node} from {worst.from_s:.1f} to {worst.to_s:.1f} s ({worst.what})"


def clock_drift_ppm(points: Sequence[tuple[int, int]]) -> float | None:
    """How much faster a node's clock runs than the controller's, parts per million; None: too few points yet.

    `points`: (controller's, node's) nanoseconds at the same moments, ideally the middle between request and answer.
    The slope between the means of the first and the last third, which a few slow answers hardly move.
    """
    if len(points) < 6 or points[-1][0] - points[0][0] < _LEAST_CLOCK_S * 1e9:
        return None
    base, third = points[0], len(points) // 3
    shifted = [(ours - base[0], theirs - base[1]) for ours, theirs in points]
    (x0, y0), (x1, y1) = (
        (fmean(x for x, _ in part), fmean(y for _, y in part)) for part in (shifted[:third], shifted[-third:])
    )
    return 1e6 * ((y1 - y0) / (x1 - x0) - 1)


def drift_reasons(drifts_ppm: Mapping[int, float | None], tolerances: Tolerances = TOLERANCES) -> list[str]:
    """Reasons to distrust a run from the clock_drift_ppm of each node, by rank: nodes time delays by their own
    clocks.
    """
    return [
        f"node {node}: its clock runs {drift:+.0f} ppm against the controller's"
        for node, drift in sorted(drifts_ppm.items())
        if drift is not None and abs(drift) > tolerances.clock_drift_ppm
    ]


def _grown(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> int:
    old, new = int(before.get(name, 0)), int(now.get(name, 0))
    return new - old if new >= old else new


def _covered_s(windows: Sequence[BadWindow]) -> float:
    """Seconds in which at least one node had a bad window."""
    covered_s, until_s = 0.0, float("-inf")
    for window in sorted(windows, key=lambda window: window.from_s):
        covered_s += max(0.0, window.to_s - max(window.from_s, until_s))
        until_s = max(until_s, window.to_s)
    return covered_s
