"""What a link did over time: traces in Mahimahi's format and in CSV, read into one value. Pure but for reading.

Mahimahi (Netravali et al. 2015, https://github.com/ravinet/mahimahi): a line is a whole number of milliseconds, at
which one packet of 1500 bytes may pass; the last line is also the length of the trace, which then begins anew.
`NAME.down` and `NAME.up` are the two directions of one trace; a `.trace` file is both at once.

CSV: a line of headings, then one row a moment, which holds until the next one:

    # source: where it is from
    # duration_s: 60
    time_s,down,up,delay_ms,loss_percent
    0,20Mbit,5Mbit,40,0
    0.5,0,0,,100

`rate` stands for both `down` and `up`; rates are written as in profiles (10Mbit, or a bare number of bit/s). What an
empty field says has not changed; what has no column is not the trace's matter. `duration_s` may be left out: the last
row then holds as long as the one before it.

A rate of 0 is an outage: nothing passes, and what is sent meanwhile is lost. (Mahimahi's own link keeps it in its
queue; HTB would count a frame sent at hardly any rate against the time after the outage as well.)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from itertools import pairwise
from math import isfinite
from pathlib import Path

from gannet.netem.links.profile import SLOWEST_BPS, LinkProfile, parse_rate_bps

TRACE_FOLDER = Path(__file__).parents[1] / "traces"
_PACKET_BITS = 1500 * 8
# Mahimahi's files say packet by packet when there was room. Where there was none for less than this, the link was
# slow; where for longer, it was out.
_OUTAGE_MS = 500
_LARGEST_FILE_BYTES = 64 * 2**20
_MOST_POINTS = 200_000
_LONGEST_S = 7 * 86_400.0
_MAHIMAHI = (".down", ".up", ".trace")
_COLUMNS = ("time_s", "rate", "down", "up", "delay_ms", "loss_percent")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,400})?|\.[0-9]{1,400}")
_WHOLE = re.compile(r"[0-9]{1,12}")
_FIELDS = ("down_bps", "up_bps", "delay_ms", "loss_percent")


class TraceError(ValueError):
    """A trace that does not exist or makes no sense; the message names the file, and the line where there is one."""


@dataclass(frozen=True)
class TracePoint:
    """What holds from `at_s` on. None: not the trace's matter. A rate of 0 is an outage; `delay_ms` is one way."""

    at_s: float
    down_bps: int | None = None
    up_bps: int | None = None
    delay_ms: float | None = None
    loss_percent: float | None = None


@dataclass(frozen=True)
class Trace:
    """`points` in order, the first at 0; the last holds until `duration_s`. `loop`: it then begins anew.

    Raises TraceError where that is not so, or where a figure is none that a link can have.
    """

    name: str
    source: str
    points: tuple[TracePoint, ...]
    duration_s: float
    loop: bool = False

    def __post_init__(self) -> None:
        if not self.points:
            raise TraceError(f"{self.name}: an empty trace")
        if len(self.points) > _MOST_POINTS:
            raise TraceError(f"{self.name}: {len(self.points)} points; {_MOST_POINTS} at most: make the bins wider")
        if not 0 < self.duration_s <= _LONGEST_S:
            raise TraceError(f"{self.name}: duration_s is {self.duration_s:g}; above 0, up to {_LONGEST_S:g}")
        times = [point.at_s for point in self.points]
        if times[0] != 0 or any(b <= a for a, b in pairwise(times)) or times[-1] >= self.duration_s:
            raise TraceError(
                f"{self.name}: times must begin at 0, grow, and end before duration_s {self.duration_s:g}"
            )
        for point in self.points:
            _check(point, self.name)

    def at(self, t_s: float) -> TracePoint:
        """What holds `t_s` seconds after the beginning; the last point after the end, unless it loops."""
        if self.loop:
            t_s %= self.duration_s
        return self.points[max(0, bisect_right(self.points, t_s, key=lambda point: point.at_s) - 1)]

    def unrolled(self, until_s: float) -> Iterator[tuple[float, TracePoint]]:
        """(seconds since the beginning, what holds from then on), up to the end, or before `until_s` if sooner.

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
        """Whether the trace says anything of that field of TracePoint."""
        return any(getattr(point, field) is not None for point in self.points)

    def to_csv(self) -> str:
        """The trace as a CSV file has it; parse_csv reads the same trace from it, but for `loop`."""
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


def profile_at(point: TracePoint, profile: LinkProfile, name: str) -> LinkProfile:
    """The profile with what the trace says in place of its own figures; `name` is what it is then called.

    A delay counts up and down; a loss of the trace is random, in place of bursts. A rate of 0 is a cut, no figure of
    a profile, and left out here. ValueError where a profile can not be so.
    """
    changed: dict[str, object] = {"name": name}
    for field in ("down_bps", "up_bps"):
        if rate := getattr(point, field):
            changed[field] = rate
    if point.delay_ms is not None:
        changed |= {"up_delay_ms": point.delay_ms, "down_delay_ms": point.delay_ms}
    if point.loss_percent is not None:
        changed |= {"loss_percent": point.loss_percent, "gilbert_elliott": None}
    return LinkProfile.model_validate({**dict(profile), **changed})


def list_traces() -> list[str]:
    """Names of the shipped traces, sorted."""
    return sorted({path.stem for path in TRACE_FOLDER.iterdir() if path.suffix in (".csv", *_MAHIMAHI)})


def load_trace(name_or_path: str | Path, bin_ms: int = 100) -> Trace:
    """A shipped trace by name, or any by the path of a file whose name ends in .csv, .down, .up or .trace.

    Mahimahi's files are counted in bins of `bin_ms`. Raises TraceError.
    """
    text = str(name_or_path)
    if not text.endswith((".csv", *_MAHIMAHI)):
        if text not in list_traces():
            close = get_close_matches(text, list_traces(), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            known = ", ".join(list_traces())
            raise TraceError(
                f"no trace named {text!r}: {hint}known: {known}, or a file .csv, or of Mahimahi .down, .up, .trace"
            )
        shipped = TRACE_FOLDER / f"{text}.csv"
        text = str(shipped if shipped.is_file() else shipped.with_suffix(".down"))
    path = Path(text)
    if path.suffix == ".csv":
        return parse_csv(_read(path), path.stem, str(path))
    other = {".down": ".up", ".up": ".down"}.get(path.suffix)
    files = {path.suffix: _read(path)}
    if other is not None and path.with_suffix(other).is_file():
        files[other] = _read(path.with_suffix(other))
    down, up = files.get(".trace", files.get(".down")), files.get(".trace", files.get(".up"))
    return parse_mahimahi(down, up, path.stem, str(path), bin_ms)


def parse_csv(text: str, name: str, where: str = "") -> Trace:
    """The trace that a CSV file's text says; `where` names the file in errors. Raises TraceError."""
    where = where or name
    notes: dict[str, str] = {}
    columns: list[str] | None = None
    points: list[TracePoint] = []
    for number, line in enumerate(text.splitlines(), start=1):
        row = line.strip()
        if row.startswith("#"):
            key, colon, value = row[1:].partition(":")
            notes |= {key.strip(): value.strip()} if colon else {}
        elif row and columns is None:
            columns = _headings(row, f"{where}, line {number}")
        elif row and columns is not None:
            points.append(_row(row, columns, points[-1] if points else None, f"{where}, line {number}"))
    if columns is None or not points:
        raise TraceError(
            f"{where}: no rows; write a heading such as {','.join(_COLUMNS[:1] + _COLUMNS[2:])}, and rows"
        )
    if len(points) > 1:
        duration_s = 2 * points[-1].at_s - points[-2].at_s
    else:
        duration_s = 1.0
    if (told := notes.get("duration_s")) is not None:
        duration_s = _number(told, f"{where}: duration_s")
    elif len(points) == 1:
        raise TraceError(f"{where}: one row alone does not say how long it holds: add a line `# duration_s: 60`")
    try:
        return Trace(name, notes.get("source", ""), tuple(points), round(duration_s, 9))
    except TraceError as error:
        raise TraceError(f"{where}: {str(error).removeprefix(f'{name}: ')}") from None


def parse_mahimahi(down: str | None, up: str | None, name: str, where: str = "", bin_ms: int = 100) -> Trace:
    """The trace of one or two texts in Mahimahi's format, counted in bins; raises TraceError.

    As many bits pass as the file has packets. Where both directions are given and one is longer, the shorter one
    begins anew meanwhile.
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
    if sum(len(bins) * -(-end_ms // length_ms) for bins, length_ms in series.values()) > 2 * _MOST_POINTS:
        raise TraceError(
            f"{where}: one direction is so much longer than the other that {_MOST_POINTS} points are passed"
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
    """The milliseconds of a file, which never go back and do not all lie at 0."""
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
    if found[-1] > _LONGEST_S * 1000:
        raise TraceError(f"{where}: lasts {found[-1]} ms: up to {_LONGEST_S * 1000:.0f}")
    return found


def _binned(at_ms: list[int], bin_ms: int, where: str) -> tuple[list[tuple[int, int]], int]:
    """((from when in ms, bit/s), …) of a direction, and its length in ms.

    A packet at t uses the time before it, so that one at the very end is in the last bin. Bins without any packet
    are an outage where there are enough of them, else part of the bin after them. A last bin of less than half
    `bin_ms` belongs to the one before it.
    """
    length_ms = at_ms[-1]
    count = max(1, length_ms // bin_ms + (length_ms % bin_ms >= (bin_ms + 1) // 2))
    if count > _MOST_POINTS:
        raise TraceError(f"{where}: {count} bins of {bin_ms} ms; {_MOST_POINTS} at most: make bin_ms larger")
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


def _headings(row: str, where: str) -> list[str]:
    columns = [heading.strip() for heading in row.split(",")]
    if unknown := [heading for heading in columns if heading not in _COLUMNS]:
        raise TraceError(f"{where}: unknown column {unknown[0][:40]!r}; allowed: {', '.join(_COLUMNS)}")
    if "time_s" not in columns:
        raise TraceError(f"{where}: there is no column time_s")
    if twice := [heading for heading, count in Counter(columns).items() if count > 1]:
        raise TraceError(f"{where}: column {twice[0]} is there twice")
    if "rate" in columns and {"down", "up"} & set(columns):
        raise TraceError(f"{where}: rate and down or up say the same thing twice: keep one")
    if columns == ["time_s"]:
        raise TraceError(f"{where}: time_s alone says nothing: add rate, down, up, delay_ms or loss_percent")
    return columns


def _row(row: str, columns: list[str], before: TracePoint | None, where: str) -> TracePoint:
    cells = [cell.strip() for cell in row.split(",")]
    if len(cells) != len(columns):
        raise TraceError(f"{where}: {len(cells)} fields, but {len(columns)} headings")
    found: dict[str, float | int] = {}
    for heading, cell in zip(columns, cells, strict=True):
        if not cell:
            if before is None or heading == "time_s":
                raise TraceError(
                    f"{where}: {heading} is empty" + ("" if heading == "time_s" else " in the first row")
                )
        elif heading in ("rate", "down", "up"):
            rate_bps = _rate(cell, f"{where}: {heading}")
            found |= {f"{way}_bps": rate_bps for way in (("down", "up") if heading == "rate" else (heading,))}
        else:
            found["at_s" if heading == "time_s" else heading] = _number(cell, f"{where}: {heading}")
    point = replace(before, **found) if before is not None else TracePoint(**found)  # type: ignore[arg-type]
    if before is None and point.at_s != 0:
        raise TraceError(f"{where}: time_s is {point.at_s:g}: the first row is at 0")
    if before is not None and point.at_s <= before.at_s:
        raise TraceError(f"{where}: time_s {point.at_s:g} does not come after {before.at_s:g}")
    _check(point, where)
    return point


def _rate(cell: str, where: str) -> int:
    try:
        rate_bps = parse_rate_bps(int(cell) if _WHOLE.fullmatch(cell) else cell)
    except (ValueError, OverflowError):
        rate_bps = None
    if rate_bps is None:
        raise TraceError(f"{where}: {cell[:40]!r} is no rate: write 10Mbit, or bit/s as a whole number")
    return rate_bps


def _number(cell: str, where: str) -> float:
    if not _NUMBER.fullmatch(cell):
        raise TraceError(f"{where}: {cell[:40]!r} is no number from 0")
    return float(cell)


def _check(point: TracePoint, where: str) -> None:
    """Whether these are figures that a link can have; limits as those of gannet.netem.links.profile.LinkProfile."""
    for field, most in zip(_FIELDS, (100 * 10**9, 100 * 10**9, 60_000, 100), strict=True):
        value = getattr(point, field)
        if value is not None and not (isfinite(value) and 0 <= value <= most):
            raise TraceError(f"{where}: {field} is {value:g}: from 0 to {most:g}")
        if field.endswith("_bps") and value is not None and 0 < value < SLOWEST_BPS:
            raise TraceError(f"{where}: {field} is {value}: 0, or {SLOWEST_BPS} and more")


def _plain(value: float | int) -> str:
    """A number as short as it can be read back exactly, without an exponent."""
    return str(int(value)) if value == int(value) else f"{Decimal(repr(value)):f}"


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= _LARGEST_FILE_BYTES else ""
    except FileNotFoundError:
        raise TraceError(f"no trace file at {path}") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a path that no file can have
        raise TraceError(f"{str(path)!r}: {error}") from None
    if size > _LARGEST_FILE_BYTES:
        raise TraceError(f"{path}: {size} bytes; {_LARGEST_FILE_BYTES} at most")
    return text
