"""A link's rates, delays and losses over time, as one value.

gannet.netem.links.trace_files loads one by name or path; trace_csv and trace_mahimahi read the two formats.

A rate of 0 is an outage: nothing passes, and packets sent meanwhile are lost. (Mahimahi's own link keeps them in its
queue; HTB would charge a frame sent at a tiny rate to the time after the outage as well.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import isfinite

from gannet.netem.links.jitter import misfit, most_jitter_ms
from gannet.netem.links.profile import SLOWEST_BPS, LinkProfile, profile_of

MOST_POINTS = 200_000
LONGEST_S = 7 * 86_400.0
_FIELDS = ("down_bps", "up_bps", "delay_ms", "loss_percent")


class TraceError(ValueError):
    """A missing or invalid trace; the message names the file, and the line where there is one."""


@dataclass(frozen=True)
class TracePoint:
    """The figures from `at_s` on. None: not part of the trace. A rate of 0 is an outage; `delay_ms` is one way."""

    at_s: float
    down_bps: int | None = None
    up_bps: int | None = None
    delay_ms: float | None = None
    loss_percent: float | None = None


@dataclass(frozen=True)
class Trace:
    """`points` in order, the first at 0; the last holds until `duration_s`. `loop`: it then starts over.

    Raises TraceError where the points are not so, or where a figure is outside a link's limits.
    """

    name: str
    source: str
    points: tuple[TracePoint, ...]
    duration_s: float
    loop: bool = False

    def __post_init__(self) -> None:
        if not self.points:
            raise TraceError(f"{self.name}: an empty trace")
        if len(self.points) > MOST_POINTS:
            raise TraceError(f"{self.name}: {len(self.points)} points; {MOST_POINTS} at most: make the bins wider")
        if not 0 < self.duration_s <= LONGEST_S:
            raise TraceError(f"{self.name}: duration_s is {self.duration_s:g}; above 0, up to {LONGEST_S:g}")
        times = [point.at_s for point in self.points]
        if times[0] != 0 or any(b <= a for a, b in pairwise(times)) or times[-1] >= self.duration_s:
            raise TraceError(
                f"{self.name}: times must begin at 0, grow, and end before duration_s {self.duration_s:g}"
            )
        for point in self.points:
            check_point(point, self.name)

    def at(self, t_s: float) -> TracePoint:
        """The point that applies `t_s` seconds after the beginning; the last one after the end, unless it loops."""
        if self.loop:
            t_s %= self.duration_s
        return self.points[max(0, bisect_right(self.points, t_s, key=lambda point: point.at_s) - 1)]

    def unrolled(self, until_s: float) -> Iterator[tuple[float, TracePoint]]:
        """(seconds since the beginning, the point that applies from then on), up to the end, or before `until_s` if
        sooner.

        Times of later rounds are multiples of `duration_s`, not sums, so that they do not drift.
        """
        rounds = 0
        while rounds == 0 or self.loop:
            for point in self.points:
                at_s = round(rounds * self.duration_s + point.at_s, 9)
                if at_s >= until_s:
                    return
                yield at_s, point
            rounds += 1

    def touches(self, field: str) -> bool:
        """Whether the trace sets that field of TracePoint."""
        return any(getattr(point, field) is not None for point in self.points)

    def to_csv(self) -> str:
        """The trace as the text of a CSV file; parse_csv reads the same trace from it, except `loop`."""
        columns = {"down": "down_bps", "up": "up_bps", "delay_ms": "delay_ms", "loss_percent": "loss_percent"}
        chosen = {heading: field for heading, field in columns.items() if self.touches(field)}
        lines = [f"# source: {self.source}"] if self.source else []
        lines += [f"# duration_s: {_plain(self.duration_s)}", ",".join(("time_s", *chosen))]
        before = TracePoint(0.0)
        for point in self.points:
            changed = {
                field: "" if getattr(point, field) == getattr(before, field) else _plain(getattr(point, field))
                for field in chosen.values()
            }
            lines.append(",".join((_plain(point.at_s), *changed.values())))
            before = point
        return "\n".join(lines) + "\n"


def profile_at(point: TracePoint, profile: LinkProfile, name: str, lenient: bool = False) -> LinkProfile:
    """The profile with the trace's figures in place of its own, under the name `name`.

    A delay applies to both up and down; a loss of the trace is random, in place of bursts. A rate of 0 is a cut,
    which a profile cannot express, and is left out here. ValueError where the profile would be invalid: where its
    jitter does not fit the trace's delay, unless `lenient`, which takes as much of the jitter as fits.
    """
    changed: dict[str, object] = {"name": name}
    for field in ("down_bps", "up_bps"):
        if rate := getattr(point, field):
            changed[field] = rate
    if point.delay_ms is not None:
        changed |= {"up_delay_ms": point.delay_ms, "down_delay_ms": point.delay_ms}
        if lenient and misfit(profile.jitter_distribution, point.delay_ms, profile.jitter_ms):
            changed["jitter_ms"] = most_jitter_ms(profile.jitter_distribution, point.delay_ms)
            changed |= {} if point.delay_ms else {"jitter_order": "keep", "jitter_correlation_percent": 0.0}
    if point.loss_percent is not None:
        changed |= {"loss_percent": point.loss_percent, "gilbert_elliott": None}
    return profile_of({**dict(profile), **changed}, f"{name} at {point.at_s:g} s: ")


def check_point(point: TracePoint, where: str) -> None:
    """Check the figures against the limits of gannet.netem.links.profile.LinkProfile."""
    for field, most in zip(_FIELDS, (100 * 10**9, 100 * 10**9, 60_000, 100), strict=True):
        value = getattr(point, field)
        if value is not None and not (isfinite(value) and 0 <= value <= most):
            raise TraceError(f"{where}: {field} is {value:g}: from 0 to {most:g}")
        if field.endswith("_bps") and value is not None and 0 < value < SLOWEST_BPS:
            raise TraceError(f"{where}: {field} is {value}: 0, or {SLOWEST_BPS} and more")


def _plain(value: float | int) -> str:
    """The shortest text of a number that reads back exactly, without an exponent."""
    return str(int(value)) if value == int(value) else f"{Decimal(repr(value)):f}"
