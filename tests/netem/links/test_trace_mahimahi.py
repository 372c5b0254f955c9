"""Mahimahi's files: against its arithmetic, packet by packet, as its description has it."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gannet.netem.links.trace import Trace, TraceError, TracePoint
from gannet.netem.links.trace_files import load_trace
from gannet.netem.links.trace_mahimahi import parse_mahimahi

FRAME_BITS = 8 * 1514


def opportunities(at_ms: list[int], until_ms: int) -> list[int]:
    """The milliseconds, before `until_ms`, at which mm-link lets 1500 bytes pass: the file's, over and over, each
    round as long as its last line.
    """
    found, round_ms = [], 0
    while round_ms < until_ms:
        found += [round_ms + line for line in at_ms if round_ms + line <= until_ms]
        round_ms += at_ms[-1]
    return found


def frames(trace: Trace, way: str, begin_s: float, end_s: float) -> float:
    """Full frames that a trace lets pass in a window."""
    steps = [*trace.unrolled(end_s), (end_s, trace.points[0])]
    bits = 0.0
    for (at_s, point), (until_s, _) in pairwise(steps):
        bits += (getattr(point, f"{way}_bps") or 0) * max(0.0, until_s - max(begin_s, at_s))
    return bits / FRAME_BITS


def text(at_ms: list[int]) -> str:
    return "".join(f"{ms}\n" for ms in at_ms)


def drive(seed: int, length_ms: int) -> list[int]:
    """A made-up drive: rates that wander between 0.2 and 20 Mbit/s, and outages of half a second and more."""
    random, at_ms, t_ms, rate = Random(seed), list[int](), 0.0, 0.5
    while t_ms < length_ms:
        if random.random() < 0.0004:
            t_ms += random.uniform(500, 3000)
        rate = min(1.7, max(0.02, rate * random.uniform(0.9, 1.11)))  # packets a millisecond
        t_ms += random.expovariate(rate)
        at_ms.append(round(t_ms))
    return [*(ms for ms in at_ms if 0 < ms < length_ms), length_ms]


@pytest.mark.parametrize(("seed", "length_ms"), [(1, 60_000), (2, 59_937), (3, 31_001)])
def test_every_second_and_the_total_are_mahimahis_over_several_rounds(seed: int, length_ms: int) -> None:
    at_ms = drive(seed, length_ms)
    trace = parse_mahimahi(text(at_ms), None, "x")
    assert sum(point.down_bps == 0 for point in trace.points) >= 5
    until_ms = 3 * length_ms
    expected, near = ([0] * (until_ms // 1000 + 1) for _ in range(2))
    for ms in opportunities(at_ms, until_ms):
        expected[(ms - 1) // 1000] += 1
        near[(ms - 101) // 1000] += (ms - 101) // 1000 != (ms - 1) // 1000
        near[(ms - 1) // 1000] += (ms - 101) // 1000 != (ms - 1) // 1000
    steps = [frames(trace, "down", second, second + 1) for second in range(len(expected) - 1)]
    for second, (got, want) in enumerate(zip(steps, expected[:-1], strict=True)):
        # In later rounds a bin may lie over the end of a second, and some of its packets then count in the other one.
        blur = 2 if second < length_ms // 1000 else near[second] + 2
        assert abs(got - want) <= max(0.01 * want, blur), second
    assert sum(steps) == pytest.approx(sum(expected[:-1]), rel=0.001)
    assert frames(trace, "down", 0, until_ms / 1000) == pytest.approx(3 * len(at_ms), rel=1e-6)


def test_each_direction_starts_over_after_its_own_length() -> None:
    down, up = drive(4, 20_000), drive(5, 13_700)
    trace = parse_mahimahi(text(down), text(up), "x")
    assert trace.loop and trace.outages == "keep"
    for way, at_ms in (("down", down), ("up", up)):
        alone = parse_mahimahi(text(at_ms), None, "x")
        for begin_s in (0.0, 13.7, 20.0, 27.4, 41.1, 60.0):
            assert frames(trace, way, begin_s, begin_s + 3) == pytest.approx(
                frames(alone, "down", begin_s, begin_s + 3)
            )
        assert frames(trace, way, 0, 274) == pytest.approx(len(opportunities(at_ms, 274_000)), rel=1e-3)


@pytest.mark.parametrize(
    "lines", ["1\n", "0\n1\n2\n3\n4\n", "1\r\n\r\n2\r\n", "1\n\f\n2\v\n", text(list(range(1, 40_001)))]
)
def test_a_constant_file_is_a_constant_rate_for_any_length(lines: str) -> None:
    count, last_ms = len(lines.split()), int(lines.split()[-1])
    trace = parse_mahimahi(lines, lines, "x")
    rate_bps = round(1000 * count * FRAME_BITS / last_ms)
    assert trace.points == (TracePoint(0.0, rate_bps, rate_bps),) and trace.is_constant
    assert len(list(trace.unrolled(1e9))) == 1
    # With another direction that changes, that one's length is the trace's.
    other = parse_mahimahi(lines, "100\n150\n200\n", "x")
    assert other.up is None and other.duration_s == 0.2 and {point.down_bps for point in other.points} == {rate_bps}


def test_packets_become_rates_of_full_frames() -> None:
    """Ten packets in 100 ms are 1.2 Mbit/s of IP; packets at the very end of a bin belong to it."""
    lines = text([*range(10, 101, 10), *range(105, 201, 5)])
    trace = parse_mahimahi(lines, lines, "x")
    assert trace.points == (TracePoint(0.0, 1_211_200, 1_211_200), TracePoint(0.1, 2_422_400, 2_422_400))
    assert trace.duration_s == 0.2


def test_a_long_gap_is_an_outage_and_a_short_one_a_slow_link() -> None:
    trace = parse_mahimahi("100\n500\n1200\n", None, "x")
    assert [(p.at_s, p.down_bps, p.up_bps) for p in trace.points] == [
        (0.0, 121_120, None),  # a packet in 100 ms
        (0.1, 30_280, None),  # a packet in 400 ms
        (0.5, 0, None),
        (1.15, 242_240, None),  # and one in the half of a bin before it
    ]


ways = st.lists(st.integers(0, 4000), min_size=1, max_size=200).map(sorted).filter(lambda found: found[-1] > 0)


@given(ways, st.integers(1, 1000), st.integers(1, 60))
@example([1, 1700, 1701, 3000], 100, 1)
@example([1, 1, 1001], 1000, 7)
def test_as_many_bits_pass_as_there_are_packets(at_ms: list[int], bin_ms: int, piece: int) -> None:
    lines = text(at_ms)
    trace = parse_mahimahi(lines, None, "x", bin_ms=bin_ms)
    ends = [*(p.at_s for p in trace.points[1:]), trace.duration_s]
    bits = sum((p.down_bps or 0) * (end_s - p.at_s) for p, end_s in zip(trace.points, ends, strict=True))
    # A rate is a whole number: half a bit a second off in every bin at most.
    assert bits == pytest.approx(FRAME_BITS * len(at_ms), abs=0.5 * trace.duration_s + 1e-6)
    if len(trace.points) > 1:
        assert trace.duration_s == at_ms[-1] / 1000
    assert parse_mahimahi(Halting(lines, piece), None, "x", bin_ms=bin_ms) == trace


class Halting(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, lines: str, piece: int) -> None:
        super().__init__(lines.encode())
        self._piece = piece

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._piece)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "more than 0 ms"),
        ("0\n0\n", "more than 0 ms"),
        ("1\n3\n2\n", "line 3: 2 ms comes after 3 ms"),
        ("1\n-3\n", "line 2: '-3' is no whole number"),
        ("1.5\n", "line 1: '1.5' is no whole number"),
        ("1\n2 3\n", "line 2: '2 3' is no whole number"),
        ("1\n1_0\n", "line 2: '1_0' is no whole number"),
        ("١\n", "is no whole number"),
        ("9" * 5000, "is no whole number"),
        ("999999999999\n", "lasts 999999999999 ms"),
        ("1\n" * 10_000, "10000 packets in 1 ms from 0 ms on are more than 100 Gbit/s"),
        ("".join(f"{100 * n}\n" * (1 + n % 2) for n in range(1, 200_100)), "more than 200000 changes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_mistakes(lines: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.trace"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(TraceError, match=said) as error:
        load_trace(path)
    assert str(error.value).startswith(str(path))


def test_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "12mbps").write_text("0\n1\n2\n3\n4\n")
    assert load_trace(tmp_path / "12mbps").points == (TracePoint(0.0, 15_140_000, 15_140_000),)
    (tmp_path / "drive.txt").write_text("time_s,rate_mbit\n0,1\n1,2\n")
    assert [point.up_bps for point in load_trace(tmp_path / "drive.txt").points] == [1_000_000, 2_000_000]
    (tmp_path / "cooked").write_text("0.0\t4.03\n1.0\t2.1\n")
    with pytest.raises(TraceError, match="neither CSV with a column time_s, nor Mahimahi's"):
        load_trace(tmp_path / "cooked")
    (tmp_path / "a.down").write_text("1\n")
    assert load_trace(tmp_path / "a.down").points == (TracePoint(0.0, 12_112_000),)
    (tmp_path / "a.up").write_text("2\n")
    assert load_trace(tmp_path / "a.up").points == (TracePoint(0.0, 12_112_000, 6_056_000),)
