"""A link's rates, delays and losses over time, as one value.

gannet.netem.links.trace_files loads one by name or path; trace_csv and trace_mahimahi read the two formats, and
gannet.netem.links.replay puts one into a schedule.

A rate of 0 is an outage: nothing passes. What is sent meanwhile is lost, or waits in the buffer: see `outages`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from heapq import merge
from itertools import groupby, pairwise
from math import isfinite, nextafter
from typing import Literal

from gannet.netem.links.jitter import misfit, most_jitter_ms
from gannet.netem.links.profile import FASTEST_FRAMES_BPS, SLOWEST_BPS, LinkProfile, profile_of

MOST_POINTS = 200_000
LONGEST_S = 7 * 86_400.0
FIELDS = ("down_bps", "up_bps", "delay_ms", "loss_percent")
# What becomes of packets in an outage: `drop` loses them, `keep` has them wait, as far as the buffer has room.
Outages = Literal["drop", "keep"]
# The buffer of a link that keeps packets in outages holds what its fastest rate sends in this time.
_KEPT_S = 1.0
_LEAST_KEPT_BYTES, _MOST_KEPT_BYTES = 1 << 16, 1 << 26


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

    @property
    def figures(self) -> tuple[float | None, ...]:
        """All but the time."""
        return self.down_bps, self.up_bps, self.delay_ms, self.loss_percent


@dataclass(frozen=True)
class Track:
    """Points in order, the first at 0; the last applies until `duration_s`, and then the first again.

    Of neighbours with the same figures only the first is kept.
    """

    points: tuple[TracePoint, ...]
    duration_s: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", merged(self.points))

    def at(self, t_s: float) -> TracePoint:
        """The point that applies `t_s` seconds after the beginning of a round."""
        return self.points[max(0, bisect_right(self.points, t_s, key=lambda point: point.at_s) - 1)]

    def steps(self, until_s: float) -> Iterator[tuple[float, TracePoint]]:
        """(seconds since the beginning, the point that applies from then on), round after round, before `until_s`.

        A point that changes nothing, as where the last of a round equals the first, is left out. Times of later
        rounds are multiples of `duration_s`, not sums, so that they do not drift.
        """
        again = self.points if self.points[-1].figures != self.points[0].figures else self.points[1:]
        rounds, points = 0, self.points
        while points and (begin_s := round(rounds * self.duration_s, 9)) < until_s:
            for point in points:
                at_s = round(begin_s + point.at_s, 9)
                if at_s >= until_s:
                    return
                yield at_s, point
            rounds, points = rounds + 1, again


@dataclass(frozen=True)
class Trace:
    """`points` in order, the first at 0; the last applies until `duration_s`. `loop`: it then starts over.

    `up`: the rates of the uplink, where these have a length of their own: it starts over by itself, until the longer
    of the two ends. Neighbours with the same figures are merged. Raises TraceError where the points are not so, or
    where a figure is outside a link's limits.
    """

    name: str
    source: str
    points: tuple[TracePoint, ...]
    duration_s: float
    loop: bool = False
    outages: Outages = "drop"
    up: Track | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", merged(self.points))
        for track in self.tracks:
            self._check(track)

    def _check(self, track: Track) -> None:
        if not track.points:
            raise TraceError(f"{self.name}: an empty trace")
        if len(track.points) > MOST_POINTS:
            raise TraceError(f"{self.name}: {len(track.points)} changes; {MOST_POINTS} at most: make the bins wider")
        if not 0 < track.duration_s <= LONGEST_S:
            raise TraceError(f"{self.name}: duration_s is {track.duration_s:g}; above 0, up to {LONGEST_S:g}")
        times = [point.at_s for point in track.points]
        if times[0] != 0 or any(b <= a for a, b in pairwise(times)) or times[-1] >= track.duration_s:
            raise TraceError(
                f"{self.name}: times must begin at 0, grow, and end before duration_s {track.duration_s:g}"
            )
        for point in track.points:
            check_point(point, self.name)

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """What starts over by itself: all figures, or all others and the uplink's rates."""
        own = Track(self.points, self.duration_s)
        return (own,) if self.up is None else (own, self.up)

    @property
    def length_s(self) -> float:
        """How long it lasts when it is replayed once."""
        return max(track.duration_s for track in self.tracks)

    @property
    def is_constant(self) -> bool:
        """Whether nothing ever changes."""
        return all(len(track.points) == 1 for track in self.tracks)

    @property
    def has_outage(self) -> bool:
        """Whether a rate of it is ever 0."""
        return any(0 in (point.down_bps, point.up_bps) for track in self.tracks for point in track.points)

    @cached_property
    def buffer_bytes(self) -> int | None:
        """The buffer of a link that has none of its own while this is replayed; None: as without the trace.

        Where packets are kept in outages, a second of the fastest rate, the whole time: a buffer that followed each
        rate would lose at the first slow moment what it has kept.
        """
        if self.outages == "drop" or not self.has_outage:
            return None
        fastest_bps = max(max(point.down_bps or 0, point.up_bps or 0) for t in self.tracks for point in t.points)
        return min(_MOST_KEPT_BYTES, max(_LEAST_KEPT_BYTES, round(fastest_bps * _KEPT_S / 8)))

    def at(self, t_s: float) -> TracePoint:
        """The point that applies `t_s` seconds after the beginning; the last one after the end, unless it loops."""
        if not self.loop:
            t_s = min(t_s, nextafter(self.length_s, 0.0))
        return self._joined([track.at(t_s % track.duration_s) for track in self.tracks])

    def unrolled(self, until_s: float) -> Iterator[tuple[float, TracePoint]]:
        """(seconds since the beginning, the point that applies from then on), up to the end, or before `until_s` if
        sooner: the changes alone.
        """
        end_s = until_s if self.loop else min(until_s, self.length_s)
        present = [track.points[0] for track in self.tracks]
        streams = [_numbered(place, track, end_s) for place, track in enumerate(self.tracks)]
        for at_s, together in groupby(merge(*streams, key=lambda step: step[0]), key=lambda step: step[0]):
            for _, place, point in together:
                present[place] = point
            yield at_s, self._joined(present)

    def _joined(self, present: Sequence[TracePoint]) -> TracePoint:
        return present[0] if self.up is None else replace(present[0], up_bps=present[1].up_bps)

    def touches(self, field: str) -> bool:
        """Whether the trace sets that field of TracePoint."""
        return any(getattr(point, field) is not None for track in self.tracks for point in track.points)

    def to_csv(self) -> str:
        """The trace as the text of a CSV file; gannet.netem.links.trace_csv.parse_csv makes the same trace of it."""
        columns = [field for field in FIELDS if self.touches(field)]
        notes = {"source": self.source} if self.source else {}
        notes["duration_s"] = plain(self.duration_s)
        notes |= {"up_duration_s": plain(self.up.duration_s)} if self.up else {}
        notes |= {"loop": "yes"} if self.loop else {}
        notes |= {"outages": "keep"} if self.outages == "keep" else {}
        rows: dict[float, dict[str, str]] = {}
        for track, fields in ((self.tracks[0], [f for f in columns if not self.up or f != "up_bps"]), *self._apart):
            before = TracePoint(0.0)
            for point in track.points:
                row = rows.setdefault(point.at_s, {})
                row |= {f: plain(getattr(point, f)) for f in fields if getattr(point, f) != getattr(before, f)}
                before = point
        lines = [f"# {key}: {value}" for key, value in notes.items()] + [",".join(("time_s", *columns))]
        lines += [",".join((plain(at_s), *(row.get(f, "") for f in columns))) for at_s, row in sorted(rows.items())]
        return "\n".join(lines) + "\n"

    @property
    def _apart(self) -> tuple[tuple[Track, list[str]], ...]:
        return ((self.up, ["up_bps"]),) if self.up else ()


def _numbered(place: int, track: Track, end_s: float) -> Iterator[tuple[float, int, TracePoint]]:
    return ((at_s, place, point) for at_s, point in track.steps(end_s))


def merged(points: Sequence[TracePoint]) -> tuple[TracePoint, ...]:
    """The points without those that say what the one before them says."""
    kept = [point for before, point in pairwise(points) if point.figures != before.figures]
    return (*points[:1], *kept)


def profile_at(
    point: TracePoint, profile: LinkProfile, name: str, lenient: bool = False, buffer_bytes: int | None = None
) -> LinkProfile:
    """The profile with the trace's figures in place of its own, under the name `name`.

    A delay applies to both up and down; a loss of the trace is random, in place of bursts. A rate of 0 is an outage,
    which a profile cannot express, and is left out here. `buffer_bytes`: of a profile that has no buffer of its own.
    ValueError where the profile would be invalid: where its jitter does not fit the trace's delay, unless `lenient`,
    which takes as much of the jitter as fits.
    """
    changed: dict[str, object] = {"name": name}
    if profile.buffer_ms is None and profile.buffer_bytes is None and profile.buffer_packets is None:
        changed["buffer_bytes"] = buffer_bytes
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
    for field, most in zip(FIELDS, (FASTEST_FRAMES_BPS, FASTEST_FRAMES_BPS, 60_000, 100), strict=True):
        value = getattr(point, field)
        if value is not None and not (isfinite(value) and 0 <= value <= most):
            raise TraceError(f"{where}: {field} is {value:g}: from 0 to {most:g}")
        if field.endswith("_bps") and value is not None and 0 < value < SLOWEST_BPS:
            raise TraceError(f"{where}: {field} is {value}: 0, or {SLOWEST_BPS} and more")


def plain(value: float | int) -> str:
    """The shortest text of a number that reads back exactly, without an exponent."""
    return str(int(value)) if value == int(value) else f"{Decimal(repr(value)):f}"
