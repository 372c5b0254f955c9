"""A trace out of intervals, one by one: merged, or averaged over bins. Memory grows with the changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, isfinite

from gannet.netem.formats.base import FormatError, Imported, Source
from gannet.netem.links.profile import FASTEST_FRAMES_BPS, SLOWEST_BPS
from gannet.netem.links.trace import LONGEST_S, MOST_POINTS, Trace, TraceError, TracePoint
from gannet.netem.links.yaml_files import short

LONGEST_LINE = 65_536
_NUMBER = re.compile(r"[-+]?([0-9]{1,25}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][-+]?[0-9]{1,3})?", re.ASCII)
_WORDS = {"down_bps": "down", "up_bps": "up", "delay_ms": "one-way delay", "loss_percent": "loss, one way"}
UNITS_BPS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
OF_PAYLOAD = "what programs measured is without headers, which are not added: full frames take 4% to 5% more"


def number(text: str, where: str) -> float:
    """A number in decimal. Raises FormatError."""
    if not _NUMBER.fullmatch(text) or not isfinite(value := float(text)):
        raise FormatError(f"{where}: {short(text)} is no number")
    return value


def lines_of(source: Source) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not empty, read one by one. Raises FormatError."""
    try:
        with source.path.open("rb") as file:
            count = 0
            while line := file.readline(LONGEST_LINE + 1):
                count += 1
                if len(line) > LONGEST_LINE:
                    raise FormatError(f"line {count}: longer than {LONGEST_LINE} characters")
                text = line.decode("utf-8-sig" if count == 1 else "utf-8", errors="replace").strip()
                if text:
                    yield count, text
    except OSError as error:
        raise FormatError(str(error.strerror or error)) from None


def head_lines(source: Source, most: int = 200) -> list[str]:
    """The first lines that are not empty, without one that the head cuts."""
    head = source.head
    lines = head.splitlines()
    if len(head) >= 65_000 and lines:
        lines.pop()
    return [line.strip() for line in lines[:most] if line.strip()]


def rate_unit(unit: str | None, default: str) -> float:
    """Bit/s in one of `unit` (--unit), or of `default`. Raises FormatError."""
    names = {name.lower(): bps for name, bps in UNITS_BPS.items()}
    if (bps := names.get((unit or default).lower())) is None:
        raise FormatError(f"--unit {unit}: a rate's unit is {', '.join(UNITS_BPS)}")
    return bps


@dataclass
class _Sum:
    total: float = 0.0
    seconds: float = 0.0
    least: float = inf
    most: float = -inf

    def add(self, value: float, seconds: float) -> None:
        self.total += value * seconds
        self.seconds += seconds
        self.least, self.most = min(self.least, value), max(self.most, value)

    @property
    def mean(self) -> float:
        return self.total / self.seconds


class Intervals:
    """Takes intervals of constant figures in order. `bin_ms`: averages over bins of this length."""

    def __init__(self, fields: tuple[str, ...], bin_ms: int | None = None) -> None:
        self.fields, self.bin_s = fields, None if bin_ms is None else bin_ms / 1000
        self.points: list[TracePoint] = []
        self.sums = {field: _Sum() for field in fields}
        self.rows, self.at_s, self.raised = 0, 0.0, 0
        self._bin: dict[str, _Sum] = {}
        self._number = 0

    def add(self, seconds: float, where: str, **figures: float | None) -> None:
        """An interval of this length; a figure that is None is not known, and stays what it was."""
        self.rows += 1
        if not seconds > 0:
            raise FormatError(f"{where}: times must grow")
        if not self.at_s + seconds <= LONGEST_S:
            raise FormatError(f"{where}: lasts more than {LONGEST_S:g} s, which a trace may at most")
        for field, value in figures.items():
            if value is not None:
                self._check(field, value, where)
                self.sums[field].add(value, seconds)
        if self.bin_s is None:
            self._point(self.at_s, figures, where)
        else:
            self._fill(seconds, self.bin_s, figures, where)
        self.at_s += seconds

    def _check(self, field: str, value: float, where: str) -> None:
        most = FASTEST_FRAMES_BPS if field.endswith("_bps") else 60_000 if field == "delay_ms" else 100
        if not 0 <= value <= most:
            raise FormatError(f"{where}: {_WORDS[field]} is {value:g}: from 0 to {most:g} (bit/s, ms or %)")

    def _fill(self, seconds: float, bin_s: float, figures: dict[str, float | None], where: str) -> None:
        at_s, end_s = self.at_s, self.at_s + seconds
        edge_s = (self._number + 1) * bin_s
        while end_s >= edge_s:
            self._into_bin(edge_s - at_s, figures)
            self._settle(where)
            at_s, whole = edge_s, int((end_s - edge_s) / bin_s)
            if whole > 1:  # bins that are all this interval: one point
                self._point(at_s, figures, where)
                self._number += whole
                at_s = self._number * bin_s
            edge_s = (self._number + 1) * bin_s
        self._into_bin(end_s - at_s, figures)

    def _into_bin(self, seconds: float, figures: dict[str, float | None]) -> None:
        if seconds > 0:
            for field, value in figures.items():
                if value is not None:
                    self._bin.setdefault(field, _Sum()).add(value, seconds)

    def _settle(self, where: str) -> None:
        means = {field: found.mean for field, found in self._bin.items()}
        self._point(self._number * (self.bin_s or 0.0), means, where)
        self._bin, self._number = {}, self._number + 1

    def _point(self, at_s: float, figures: dict[str, float | None] | dict[str, float], where: str) -> None:
        known = {field: self._rounded(field, value) for field, value in figures.items() if value is not None}
        before = self.points[-1] if self.points else TracePoint(0.0)
        point = replace(before, at_s=round(at_s, 9), **known)  # type: ignore[arg-type]
        if self.points and point.figures == before.figures:
            return
        if self.points and point.at_s <= before.at_s:
            raise FormatError(f"{where}: comes less than a nanosecond after the row before")
        if len(self.points) == MOST_POINTS:
            raise FormatError(f"{where}: more than {MOST_POINTS:,} changes: average them, with --bin-ms 1000")
        self.points.append(point)

    def _rounded(self, field: str, value: float) -> float | int:
        if not field.endswith("_bps"):
            return round(value, 6)
        if 0 < value < SLOWEST_BPS:
            self.raised += 1
            return SLOWEST_BPS
        return round(value)

    def imported(
        self, source: Source, what: str, facts: list[str], dropped: list[str], loop: bool = False
    ) -> Imported:
        """The whole, as a trace; a figure that is only known later applies from the beginning. Raises FormatError."""
        if not self.rows or self.at_s <= 0:
            raise FormatError("it has no rows with a length")
        if self._bin:
            self._settle("the end")
        first = {f: next((v for p in self.points if (v := getattr(p, f)) is not None), None) for f in self.fields}
        points = [
            replace(p, **{f: first[f] for f in self.fields if getattr(p, f) is None})  # type: ignore[arg-type]
            for p in self.points
        ]
        name = source.path.name
        try:
            trace = Trace(source.path.stem or name, f"{what} {name}", tuple(points), round(self.at_s, 9), loop)
        except TraceError as error:
            raise FormatError(str(error)) from None
        dropped = list(dropped)
        if self.raised:
            dropped.append(f"rates above 0 and below 1 kbit/s, which are 1 kbit/s here: {self.raised} of them")
        about = [f"rows: {self.rows:,}", f"duration: {self.at_s:.9g} s" + (", then starts over" if loop else "")]
        about += [_range(field, found) for field, found in self.sums.items() if found.seconds]
        if self.bin_s is not None:
            about.append(f"averaged over bins of {1000 * self.bin_s:g} ms")
        return Imported(what, "trace", trace.to_csv(), facts=[*about, *facts], dropped=dropped)


def _range(field: str, found: _Sum) -> str:
    scale, unit = {"down_bps": (1e6, "Mbit/s"), "up_bps": (1e6, "Mbit/s"), "delay_ms": (1.0, "ms")}.get(
        field, (1.0, "%")
    )
    mean, least, most = (f"{value / scale:.7g} {unit}" for value in (found.mean, found.least, found.most))
    return f"{_WORDS[field]}: mean {mean}, minimum {least}, maximum {most}"
