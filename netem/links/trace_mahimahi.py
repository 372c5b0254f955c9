"""Reads a trace in Mahimahi's format (Netravali et al. 2015, https://github.com/ravinet/mahimahi).

A line is a whole number of milliseconds, at which one packet of 1500 bytes may pass; the last line is also the length
of the trace, which then starts over.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from gannet.netem.links.profile import SLOWEST_BPS
from gannet.netem.links.trace import LONGEST_S, MOST_POINTS, Trace, TraceError, TracePoint

_PACKET_BITS = 1500 * 8
# The files list the moments at which a packet could pass. A gap shorter than this is a slow link; a longer one is an
# outage.
_OUTAGE_MS = 500
_WHOLE = re.compile(r"[0-9]{1,12}")


def parse_mahimahi(down: str | None, up: str | None, name: str, where: str = "", bin_ms: int = 100) -> Trace:
    """The trace of one or two texts in Mahimahi's format, counted in bins; raises TraceError.

    As many bits pass as the file has packets. Where both directions are given and one is longer, the shorter one is
    repeated.
    """
    where = where or name
    if not 1 <= bin_ms <= 10_000:
        raise TraceError(f"bin_ms is {bin_ms}: from 1 to 10000")
    series = {
        field: _binned(_opportunities(text, f"{where} ({field.removesuffix('_bps')})"), bin_ms, where)
        for field, text in (("down_bps", down), ("up_bps", up))
        if text is not None
    }
    if not series:
        raise TraceError(f"{where}: neither direction is given")
    end_ms = max(length_ms for _, length_ms in series.values())
    if sum(len(bins) * -(-end_ms // length_ms) for bins, length_ms in series.values()) > 2 * MOST_POINTS:
        raise TraceError(
            f"{where}: one direction is so much longer than the other that {MOST_POINTS} points are passed"
        )
    rates: dict[int, dict[str, int]] = {}
    for field, (bins, length_ms) in series.items():
        for start_ms in range(0, end_ms, length_ms):
            for at_ms, rate_bps in bins:
                if start_ms + at_ms < end_ms:
                    rates.setdefault(start_ms + at_ms, {})[field] = rate_bps
    points: list[TracePoint] = []
    for at_ms, changed in sorted(rates.items()):
        before = points[-1] if points else TracePoint(0.0)
        if not points or any(getattr(before, field) != rate for field, rate in changed.items()):
            points.append(replace(before, at_s=at_ms / 1000, **changed))
    return Trace(name, f"Mahimahi trace {Path(where).name}", tuple(points), end_ms / 1000)


def _opportunities(text: str, where: str) -> list[int]:
    """The milliseconds of a file, which never decrease and are not all 0."""
    found: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.strip()
        if not word:
            continue
        if not _WHOLE.fullmatch(word):
            raise TraceError(f"{where}, line {number}: {word[:40]!r} is no whole number of milliseconds")
        found.append(int(word))
        if len(found) > 1 and found[-1] < found[-2]:
            raise TraceError(f"{where}, line {number}: {word} ms comes after {found[-2]} ms: times must increase")
    if not found or found[-1] == 0:
        raise TraceError(f"{where}: a trace must last for more than 0 ms")
    if found[-1] > LONGEST_S * 1000:
        raise TraceError(f"{where}: lasts {found[-1]} ms: up to {LONGEST_S * 1000:.0f}")
    return found


def _binned(at_ms: list[int], bin_ms: int, where: str) -> tuple[list[tuple[int, int]], int]:
    """((from when in ms, bit/s), …) of a direction, and its length in ms.

    A packet at t uses the time before it, so that one at the very end is in the last bin. A long enough row of bins
    without any packet is an outage; a shorter one is part of the bin after it. A last bin of less than half `bin_ms`
    belongs to the one before it.
    """
    length_ms = at_ms[-1]
    count = max(1, length_ms // bin_ms + (length_ms % bin_ms >= (bin_ms + 1) // 2))
    if count > MOST_POINTS:
        raise TraceError(f"{where}: {count} bins of {bin_ms} ms; {MOST_POINTS} at most: make bin_ms larger")
    packets = Counter(min(count - 1, max(0, t_ms - 1) // bin_ms) for t_ms in at_ms)
    bins: list[tuple[int, int]] = []
    begin = 0
    for number in sorted(packets):  # the last line is a packet, so the last bin is among them
        if (number - begin) * bin_ms >= _OUTAGE_MS:
            bins.append((begin * bin_ms, 0))
            begin = number
        end_ms = length_ms if number == count - 1 else (number + 1) * bin_ms
        rate_bps = round(1000 * packets[number] * _PACKET_BITS / (end_ms - begin * bin_ms))
        bins.append((begin * bin_ms, max(rate_bps, SLOWEST_BPS)))
        begin = number + 1
    return bins, length_ms
