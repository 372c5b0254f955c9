"""Reads a trace in Mahimahi's format (Netravali et al. 2015, https://github.com/ravinet/mahimahi).

A line is a whole number of milliseconds, at which one IP packet of 1500 bytes may pass; the last line is also the
length of that direction, which then starts over. Gannet's rates count Ethernet frames, so each line is a frame of
1514 bytes. Files are read in pieces: what they need of memory grows with the changes of the rate, not with the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gannet.netem.links.plan import FRAME_BYTES
from gannet.netem.links.profile import FASTEST_FRAMES_BPS, SLOWEST_BPS
from gannet.netem.links.trace import LONGEST_S, MOST_POINTS, Trace, TraceError, TracePoint, Track

PACKET_BITS = 8 * FRAME_BYTES
# The files list the moments at which a packet could pass. A gap shorter than this is a slow link; a longer one is an
# outage.
OUTAGE_MS = 500
_PIECE_BYTES = 1 << 20
_DIGITS = re.compile(rb"[0-9]{1,12}")


def parse_mahimahi(
    down: str | BinaryIO | None, up: str | BinaryIO | None, name: str, where: str = "", bin_ms: int = 100
) -> Trace:
    """The trace of one or two texts, or open files, in Mahimahi's format, counted in bins; raises TraceError.

    As many full frames pass as the file has lines, and each direction starts over after its own length. Outages keep
    their exact times but for half a bin at each end, and packets, as in Mahimahi.
    """
    where = where or name
    if not 1 <= bin_ms <= 10_000:
        raise TraceError(f"bin_ms is {bin_ms}: from 1 to 10000")
    given = [(field, source) for field, source in (("down_bps", down), ("up_bps", up)) if source is not None]
    if not given:
        raise TraceError(f"{where}: neither direction is given")
    if up is down:
        given = given[:1]
    tracks = [_track(source, field, bin_ms, where) for field, source in given]
    origin = f"Mahimahi trace {Path(where).name}"
    if up is down:
        tracks.append(
            Track(tuple(TracePoint(p.at_s, None, p.down_bps) for p in tracks[0].points), tracks[0].duration_s)
        )
    durations = {track.duration_s for track in tracks if len(track.points) > 1}
    if len(durations) > 1:
        own, apart = tracks
        return Trace(name, origin, own.points, own.duration_s, loop=True, outages="keep", up=apart)
    duration_s = max(durations or (track.duration_s for track in tracks))
    return Trace(name, origin, _together(tracks), duration_s, loop=True, outages="keep")


def _track(source: str | BinaryIO, field: str, bin_ms: int, where: str) -> Track:
    bins = _Bins(field, bin_ms, f"{where} ({field.removesuffix('_bps')})")
    for first_line, piece in _pieces(source):
        bins.add(piece, first_line)
    return bins.track()


def _together(tracks: Sequence[Track]) -> tuple[TracePoint, ...]:
    """The points of tracks that start over together, or never change."""
    points = sorted((point for track in tracks for point in track.points), key=lambda point: point.at_s)
    joined = [TracePoint(0.0)]
    for point in points:
        before = joined.pop() if point.at_s == joined[-1].at_s else joined[-1]
        down_bps, up_bps = (
            new if new is not None else old
            for new, old in ((point.down_bps, before.down_bps), (point.up_bps, before.up_bps))
        )
        joined.append(TracePoint(point.at_s, down_bps, up_bps))
    return tuple(joined)


def _pieces(source: str | BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines), a bounded number at a time."""
    number, rest = 1, b""
    if isinstance(source, str):
        yield 1, source.encode().splitlines()
        return
    while piece := source.read(_PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _PIECE_BYTES:
            break  # no line of such a file has so many characters: _Bins refuses it
        yield number, lines
        number += len(lines)
    yield number, [rest]


class _Bins:
    """Counts the lines of one direction in bins, which are merged into points of its rate as soon as they are known.

    A packet at t uses the time before it, so that one at the very end is in the last bin. A gap of OUTAGE_MS lies
    between bins, which are cut short for it, to half a bin at least; a shorter one is part of the bin after it. What
    is left at the end and is less than half a bin belongs to the bin before it.
    """

    def __init__(self, field: str, bin_ms: int, where: str) -> None:
        self.field, self.bin_ms, self.where = field, bin_ms, where
        self.points: list[TracePoint] = []
        self.half_ms = (bin_ms + 1) // 2
        self.last_ms = 0  # the last line
        # Two bins whose ends are not yet final: (begin, end, packets).
        self.open: list[list[int]] = []

    def add(self, lines: list[bytes], first_line: int) -> None:
        try:
            times = [int(line) for line in lines if line.strip()]
            sound = not b"".join(lines).translate(None, b"0123456789 \t\r\n\v\f")
        except ValueError:
            sound, times = False, []
        if not sound or (times and (times[0] < self.last_ms or times != sorted(times) or times[-1] >= 10**12)):
            self._complain(lines, first_line)
        if times and times[-1] > LONGEST_S * 1000:
            raise TraceError(f"{self.where}: lasts {times[-1]} ms: up to {LONGEST_S * 1000:.0f}")
        end_ms, last_ms = self.open[-1][1] if self.open else -1, self.last_ms
        for at_ms in times:
            if at_ms <= end_ms:
                self.open[-1][2] += 1
            else:
                end_ms = self._begin(at_ms, last_ms)
            last_ms = at_ms
        self.last_ms = last_ms

    def _begin(self, at_ms: int, last_ms: int) -> int:
        """A bin for a packet beyond the last bin, and after a packet at `last_ms`; returns its end."""
        end_ms = max(1, -(-at_ms // self.bin_ms)) * self.bin_ms
        begin_ms = self.open[-1][1] if self.open else 0
        if at_ms - last_ms >= OUTAGE_MS:
            if self.open:
                self.open[-1][1] = min(begin_ms, max(last_ms, self.open[-1][0] + self.half_ms))
            out_ms = self.open[-1][1] if self.open else 0
            begin_ms = max(out_ms, min(at_ms - 1, end_ms - self.half_ms))
            self._settle(0)
            if begin_ms > out_ms:
                self._point(out_ms, 0)
        self._settle(1)
        self.open.append([begin_ms, end_ms, 1])
        return end_ms

    def _settle(self, keep: int) -> None:
        """Turn bins into points, but for the last `keep`."""
        while len(self.open) > keep:
            begin_ms, end_ms, packets = self.open.pop(0)
            rate_bps = round(1000 * packets * PACKET_BITS / (end_ms - begin_ms))
            if rate_bps > FASTEST_FRAMES_BPS:
                raise TraceError(f"{self.where}: {packets} packets in {end_ms - begin_ms} ms from {begin_ms} ms on "
                                 "are more than 100 Gbit/s")  # fmt: skip
            self._point(begin_ms, max(rate_bps, SLOWEST_BPS))

    def _point(self, at_ms: int, rate_bps: int) -> None:
        if self.points and getattr(self.points[-1], self.field) == rate_bps:
            return
        if len(self.points) == MOST_POINTS:
            raise TraceError(f"{self.where}: more than {MOST_POINTS} changes of its rate: make bin_ms larger")
        self.points.append(TracePoint(at_ms / 1000, **{self.field: rate_bps}))

    def track(self) -> Track:
        """The rates, once all lines are in."""
        if not self.last_ms:
            raise TraceError(f"{self.where}: a trace must last for more than 0 ms")
        last = self.open[-1]
        last[1] = self.last_ms
        if last[1] - last[0] < self.half_ms:
            if len(self.open) > 1:
                before = self.open[-2]
                self.open[-2:] = [[before[0], last[1], before[2] + last[2]]]
            elif self.points:  # after an outage
                last[0] = max(round(1000 * self.points[-1].at_s) + 1, last[1] - self.half_ms)
        self._settle(0)
        return Track(tuple(self.points), self.last_ms / 1000)

    def _complain(self, lines: list[bytes], first_line: int) -> None:
        before_ms = self.last_ms
        for number, line in enumerate(lines, start=first_line):
            word = line.strip()
            if not word:
                continue
            shown = word[:40].decode(errors="replace")
            if not _DIGITS.fullmatch(word):
                raise TraceError(f"{self.where}, line {number}: {shown!r} is no whole number of milliseconds")
            if int(word) < before_ms:
                raise TraceError(
                    f"{self.where}, line {number}: {shown} ms comes after {before_ms} ms: times must increase"
                )
            before_ms = int(word)
        raise AssertionError("lines that are neither right nor wrong")
