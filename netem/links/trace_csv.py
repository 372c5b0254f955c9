"""Reads a trace from CSV: a line of headings, then one row a moment, which applies until the next one.

    # source: where it is from
    # duration_s: 60
    time_s,down,up_mbit,delay_ms,loss_percent
    0,20Mbit,5,40,0
    0.5,0,0,,100

`rate` stands for both `down` and `up`. Rates have a unit: each its own, as in profiles (10Mbit), or the heading one
for all (down_bps, up_kbit, rate_mbps). An empty field means no change; a figure without a column is not part of the
trace. Lines with `#` say more of it: `duration_s`, without which the last row applies as long as the one before it;
`loop: yes`; `outages: keep` or `drop` (see gannet.netem.links.trace); `counts: ip` where rates are of IP packets,
not of Ethernet frames; `up_duration_s` where the uplink's rates start over after a time of their own. Trace.to_csv
writes the same format. Rows are read one by one, and equal ones need no memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gannet.netem.links.fields import FRAMES_OF_IP
from gannet.netem.links.profile import parse_rate_bps
from gannet.netem.links.trace import MOST_POINTS, Trace, TraceError, TracePoint, Track, check_point, plain

_COLUMNS = ("time_s", "rate", "down", "up", "delay_ms", "loss_percent")
_RATE_COLUMN = re.compile(r"(rate|down|up)(?:_(bps|[kmg]bps|bit|[kmg]bit))?")
_WAYS = {"rate": ("down_bps", "up_bps"), "down": ("down_bps",), "up": ("up_bps",)}
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,400})?|\.[0-9]{1,400}")
_NOTES = {"loop": ("yes", "no"), "outages": ("drop", "keep"), "counts": ("ethernet", "ip")}
# What a data file's first lines may not exceed: a file of one endless line is none.
LONGEST_LINE = 4096


@dataclass
class _Series:
    """Points of figures that start over together, merged as they come."""

    points: list[TracePoint] = field(default_factory=list)
    last_s: float = 0.0
    before_s: float = 0.0

    def add(self, point: TracePoint, where: str) -> None:
        self.before_s, self.last_s = self.last_s, point.at_s
        if not self.points or point.figures != self.points[-1].figures:
            if len(self.points) == MOST_POINTS:
                raise TraceError(f"{where}: more than {MOST_POINTS} changes: make the steps longer")
            self.points.append(point)


def parse_csv(lines: str | Iterable[str], name: str, where: str = "", bare_bps: bool = False) -> Trace:
    """The trace in the text of a CSV file, or in its lines; `where` names the file in errors. Raises TraceError.

    `bare_bps`: rates without a unit are bit/s, as in runs that Gannet 0.1 recorded.
    """
    return _Reader(name, where or name, bare_bps).read(lines.splitlines() if isinstance(lines, str) else lines)


class _Reader:
    def __init__(self, name: str, where: str, bare_bps: bool) -> None:
        self.name, self.where, self.bare_bps = name, where, bare_bps
        self.notes: dict[str, str] = {}
        self.columns: list[str] = []
        self.all, self.up = _Series(), _Series()
        self.rows, self.at_s = 0, -1.0
        self.present: dict[str, float | int | None] = {}

    def read(self, lines: Iterable[str]) -> Trace:
        for number, line in enumerate(lines, start=1):
            row, here = line.strip(), f"{self.where}, line {number}"
            if len(line) > LONGEST_LINE:
                raise TraceError(f"{here}: longer than {LONGEST_LINE} characters")
            if row.startswith("#"):
                key, colon, value = row[1:].partition(":")
                if colon and self.rows and key.strip() in ("up_duration_s", *_NOTES):
                    raise TraceError(f"{here}: {key.strip()} belongs above the rows")
                self.notes |= {key.strip(): value.strip()} if colon else {}
            elif row and not self.columns:
                self.columns = _headings(row, here)
                self._check_notes()
            elif row:
                self._row(row, here)
        return self._trace()

    def _check_notes(self) -> None:
        for key, allowed in _NOTES.items():
            if (value := self.notes.get(key)) is not None and value.lower() not in allowed:
                raise TraceError(f"{self.where}: {key}: {value[:40]!r} is neither {' nor '.join(allowed)}")

    def _row(self, row: str, here: str) -> None:
        cells = [cell.strip() for cell in row.split(",")]
        if len(cells) != len(self.columns):
            raise TraceError(f"{here}: {len(cells)} fields, but {len(self.columns)} headings")
        found: dict[str, float | int] = {}
        for heading, cell in zip(self.columns, cells, strict=True):
            if not cell:
                if not self.rows or heading == "time_s":
                    raise TraceError(
                        f"{here}: {heading} is empty" + ("" if heading == "time_s" else " in the first row")
                    )
            elif (rate := _RATE_COLUMN.fullmatch(heading)) is not None:
                found |= dict.fromkeys(_WAYS[rate[1]], self._rate(cell, rate[2], f"{here}: {heading}"))
            else:
                found[heading] = _number(cell, f"{here}: {heading}")
        at_s = float(found.pop("time_s"))
        if not self.rows and at_s != 0:
            raise TraceError(f"{here}: time_s is {at_s:g}: the first row is at 0")
        if at_s <= self.at_s:
            raise TraceError(f"{here}: time_s {at_s:g} does not come after {self.at_s:g}")
        self.present |= found
        point = TracePoint(at_s, **self.present)  # type: ignore[arg-type]
        check_point(point, here)
        if "up_duration_s" not in self.notes:
            self.all.add(point, here)
        else:
            self._row_apart(point, found, here)
        self.rows, self.at_s = self.rows + 1, at_s

    def _row_apart(self, point: TracePoint, found: dict[str, float | int], here: str) -> None:
        if not self.rows or "up_bps" in found:
            self.up.add(TracePoint(point.at_s, up_bps=point.up_bps), here)
        if not self.rows or found.keys() - {"up_bps"}:
            self.all.add(TracePoint(point.at_s, point.down_bps, None, point.delay_ms, point.loss_percent), here)

    def _rate(self, cell: str, unit: str | None, where: str) -> int:
        number = _NUMBER.fullmatch(cell)
        if number and float(cell) == 0:
            return 0
        if number and unit is None and not self.bare_bps:
            raise TraceError(f"{where}: {cell[:40]!r} has no unit: write {cell[:15]}bit or {cell[:15]}Mbit, or "
                             "name the column for one, such as down_bps, up_kbit, rate_mbit")  # fmt: skip
        text = cell + (unit or "bit").replace("bps", "bit").removeprefix("bitbit") if number else cell
        try:
            rate_bps = parse_rate_bps(text)
        except (ValueError, OverflowError) as error:
            too_far = "is out of range: a rate is 0, or from 1kbit to 100Gbit"
            what = (
                too_far
                if "range" in str(error)
                else "is no rate: write 10Mbit, or a number under a heading with a unit"
            )
            raise TraceError(f"{where}: {cell[:40]!r} {what}") from None
        if rate_bps is None:
            raise TraceError(f"{where}: {cell[:40]!r} is no rate: write 10Mbit")
        ip = self.notes.get("counts", "").lower() == "ip" and not text.lower().endswith("ip")
        return round(rate_bps * FRAMES_OF_IP) if ip else rate_bps

    def _trace(self) -> Trace:
        if not self.rows:
            raise TraceError(f"{self.where}: no rows; write a heading such as time_s,down,up,delay_ms, and rows")
        last_s, before_s = self.all.last_s, self.all.before_s
        duration_s, up = 2 * last_s - before_s, None
        if (told := self.notes.get("duration_s")) is not None:
            duration_s = _number(told, f"{self.where}: duration_s")
            if 0 < duration_s <= last_s:
                raise TraceError(f"{self.where}: the rows must end before duration_s {plain(duration_s)}")
        elif self.rows == 1:
            raise TraceError(
                f"{self.where}: one row alone does not say how long it holds: add a line `# duration_s: 60`"
            )
        if (told := self.notes.get("up_duration_s")) is not None:
            if "up_bps" not in self.present:
                raise TraceError(f"{self.where}: up_duration_s without a column up")
            up_s = _number(told, f"{self.where}: up_duration_s")
            if 0 < up_s <= self.up.last_s:
                raise TraceError(f"{self.where}: the rows of up must end before up_duration_s {plain(up_s)}")
            up = Track(tuple(self.up.points), round(up_s, 9))
        try:
            return Trace(
                self.name,
                self.notes.get("source", ""),
                tuple(self.all.points),
                round(duration_s, 9),
                self.notes.get("loop", "").lower() == "yes",
                "keep" if self.notes.get("outages", "").lower() == "keep" else "drop",
                up,
            )
        except TraceError as error:
            raise TraceError(f"{self.where}: {str(error).removeprefix(f'{self.name}: ')}") from None


def _headings(row: str, where: str) -> list[str]:
    columns = [heading.strip().lower() for heading in row.split(",")]
    if unknown := [name for name in columns if name not in _COLUMNS and not _RATE_COLUMN.fullmatch(name)]:
        raise TraceError(
            f"{where}: unknown column {unknown[0][:40]!r}; allowed: {', '.join(_COLUMNS)}, and rates with a unit "
            "such as down_mbit, up_kbit, rate_bps"
        )
    if "time_s" not in columns:
        raise TraceError(f"{where}: there is no column time_s")
    if twice := [heading for heading, count in Counter(columns).items() if count > 1]:
        raise TraceError(f"{where}: column {twice[0]} is there twice")
    ways = Counter(way for heading in columns if (m := _RATE_COLUMN.fullmatch(heading)) for way in _WAYS[m[1]])
    if any(count > 1 for count in ways.values()):
        raise TraceError(f"{where}: {', '.join(columns[1:])} say the same thing twice: keep one rate for each way")
    if columns == ["time_s"]:
        raise TraceError(f"{where}: time_s alone says nothing: add rate, down, up, delay_ms or loss_percent")
    return columns


def _number(cell: str, where: str) -> float:
    if not _NUMBER.fullmatch(cell):
        raise TraceError(f"{where}: {cell[:40]!r} is no number from 0")
    return float(cell)
