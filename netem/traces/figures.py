"""What a trace is, in figures: rates, delays, losses and outages over its whole length. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gannet.netem.links.trace import Trace, Track

PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Spread:
    """Of one figure: its mean over time, extremes, and PERCENTILES of the time; in the figure's own unit."""

    mean: float
    least: float
    most: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Outages:
    """Times at a rate of 0: how many, and how long all together and the longest are, in seconds."""

    count: int
    total_s: float
    longest_s: float


@dataclass(frozen=True)
class Figures:
    """One direction's rate (bit/s of Ethernet frames), or `delay_ms` or `loss_percent`, over one round of a trace."""

    field: str
    duration_s: float
    changes: int
    spread: Spread
    outages: Outages | None


def figures_of(trace: Trace) -> list[Figures]:
    """The figures of every field that the trace sets, in the order of gannet.netem.links.trace.FIELDS.

    A moment before a field's first value does not count. An outage that lasts from the end of a trace that loops to
    its next beginning is one.
    """
    tracks = {"up_bps": trace.up} if trace.up else {}
    found = []
    for field in ("down_bps", "up_bps", "delay_ms", "loss_percent"):
        track = tracks.get(field) or trace.tracks[0]
        steps = steps_of(track, field)
        if steps:
            down = _outages(steps, trace.loop) if field.endswith("_bps") else None
            found.append(Figures(field, track.duration_s, len(steps), _spread(steps), down))
    return found


def steps_of(track: Track, field: str) -> list[tuple[float, float, float]]:
    """(from, until, value) of a field, in seconds from the beginning of a round; neighbours differ."""
    ends = [*(point.at_s for point in track.points[1:]), track.duration_s]
    rows = [
        (point.at_s, end_s, float(value))
        for point, end_s in zip(track.points, ends, strict=True)
        if (value := getattr(point, field)) is not None
    ]
    groups = (list(alike) for _, alike in groupby(rows, key=lambda row: row[2]))
    return [(alike[0][0], alike[-1][1], alike[0][2]) for alike in groups]


def _spread(steps: Sequence[tuple[float, float, float]]) -> Spread:
    whole_s = sum(end_s - at_s for at_s, end_s, _ in steps)
    mean = sum((end_s - at_s) * value for at_s, end_s, value in steps) / whole_s
    ordered = sorted((value, end_s - at_s) for at_s, end_s, value in steps)
    return Spread(mean, ordered[0][0], ordered[-1][0], tuple(_percentile(ordered, q, whole_s) for q in PERCENTILES))


def _percentile(ordered: Sequence[tuple[float, float]], percent: float, whole_s: float) -> float:
    """The least value that is not exceeded for that share of the time."""
    passed_s = 0.0
    for value, for_s in ordered:
        passed_s += for_s
        if passed_s >= whole_s * percent / 100 * (1 - 1e-12):
            return value
    return ordered[-1][0]


def _outages(steps: Sequence[tuple[float, float, float]], loops: bool) -> Outages:
    lengths = [end_s - at_s for at_s, end_s, value in steps if value == 0]
    if loops and len(steps) > 1 and steps[0][2] == steps[-1][2] == 0 and len(lengths) > 1:
        lengths = [lengths[0] + lengths.pop(), *lengths[1:]]
    return Outages(len(lengths), sum(lengths), max(lengths, default=0.0))


def summary(trace: Trace) -> str:
    """One phrase, for example "starlink: 300 s, loops, down 12.3 to 180 Mbit/s (mean 98.2), 3 outages of 1.2 s"."""
    parts = [f"{trace.length_s:g} s"] + (["loops"] if trace.loop else [])
    for each in figures_of(trace):
        name, unit, size = _NAMES[each.field]
        low, high, mean = (value / size for value in (each.spread.least, each.spread.most, each.spread.mean))
        parts.append(f"{name} {low:.3g} to {high:.3g}{unit} (mean {mean:.3g})" if low != high else
                     f"{name} {low:.3g}{unit}")  # fmt: skip
        if each.outages and each.outages.count:
            parts.append(
                f"{each.outages.count} outage{'s' * (each.outages.count > 1)} of {each.outages.total_s:.3g} s"
            )
    return ", ".join(parts)


_NAMES = {
    "down_bps": ("down", " Mbit/s", 1e6),
    "up_bps": ("up", " Mbit/s", 1e6),
    "delay_ms": ("delay", " ms", 1.0),
    "loss_percent": ("loss", "%", 1.0),
}
