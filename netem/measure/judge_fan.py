"""Compares what several peers send to one node at once with the plan of its links. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from gannet.netem.links.plan import PathPlan
from gannet.netem.measure.certificate import FanResult
from gannet.netem.measure.intervals import mean_interval
from gannet.netem.measure.judge import passing_share, rate_reasons
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances

_LEAST_BINS = 8


def judge_fan(
    expected: FanResult,
    trains: Sequence[Mapping[str, Any]],
    paths: Sequence[PathPlan],
    bin_s: float,
    tolerances: Tolerances = TOLERANCES,
) -> FanResult:
    """Compare the trains of one node's peers (measure_rate with bins of one clock) with what should pass in all.

    Counts only while all of them send: from the last one's first arrival to the first one's last. The interval is
    that of the means of consecutive blocks of that time, and judged at 99%.
    """
    heard = [(train, path) for train, path in zip(trains, paths, strict=True) if train.get("bins")]
    if len(heard) < len(trains):
        return _failed(expected, f"nothing arrived of {len(trains) - len(heard)} of {len(trains)} peers")
    first = 1 + max(train["first_bin"] for train, _ in heard)
    last = min(train["first_bin"] + len(train["bins"]) for train, _ in heard) - 1
    if last - first < _LEAST_BINS:
        return _failed(expected, f"the peers sent together for only {max(0, last - first) * bin_s:.2f} s")
    bits = [0.0] * (last - first)
    for train, path in heard:
        weight = 8 * train["frame_bytes"] / max(1e-9, passing_share(path))
        for place in range(first, last):
            bits[place - first] += weight * train["bins"][place - train["first_bin"]]
    measured_bps = sum(bits) / len(bits) / bin_s
    edges = [round(block * len(bits) / 4) for block in range(5)]
    blocks = [sum(bits[a:b]) / (b - a) / bin_s for a, b in pairwise(edges)]
    interval = mean_interval(blocks)
    planned_bps = expected.expected_rate_bps
    low, high = mean_interval(blocks, 0.99) or (0.0, 0.0)
    unsure = (high - low) / 2 / planned_bps
    reasons = rate_reasons(measured_bps, planned_bps, unsure, tolerances.fan_share)
    return replace(
        expected,
        measured_rate_bps=measured_bps,
        rate_interval_bps=interval,
        ok=not reasons,
        reasons=tuple(reasons),
    )


def _failed(expected: FanResult, reason: str) -> FanResult:
    return replace(expected, ok=False, reasons=(reason,))
