"""Traces: what files say against arithmetic on their lines; nothing but a trace or a TraceError comes of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.trace import Trace, TraceError, TracePoint, profile_at
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_files import TRACE_FOLDER, list_traces, load_trace
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.traces import make

CSV = """# source: a drive
# duration_s: 3
time_s,down,up,delay_ms,loss_percent
0,20Mbit,5000000,40,0
0.5,,0,,1.5
2,1kbit,,7.25,
"""


def test_a_csv_says_what_it_says() -> None:
    trace = parse_csv(CSV, "mine")
    assert (trace.name, trace.source, trace.duration_s, trace.loop) == ("mine", "a drive", 3.0, False)
    assert trace.points == (
        TracePoint(0.0, 20_000_000, 5_000_000, 40.0, 0.0),
        TracePoint(0.5, 20_000_000, 0, 40.0, 1.5),
        TracePoint(2.0, 1_000, 0, 7.25, 1.5),
    )


def test_columns_that_are_not_there_are_not_the_traces_matter() -> None:
    trace = parse_csv("time_s,rate\n0,2Mbit\n1,4Mbit\n", "x")
    assert trace.points == (TracePoint(0.0, 2_000_000, 2_000_000), TracePoint(1.0, 4_000_000, 4_000_000))
    assert trace.duration_s == 2.0  # the last row holds as long as the one before
    profile = LinkProfile(name="p", up_delay_ms=5, down_delay_ms=6, loss_percent=1, jitter_ms=2)
    replayed = profile_at(trace.points[1], profile, "x")
    assert replayed == profile.model_copy(update={"name": "x", "up_bps": 4_000_000, "down_bps": 4_000_000})


def test_a_delay_counts_up_and_down_and_an_outage_is_no_rate_of_a_profile() -> None:
    replayed = profile_at(TracePoint(0.0, 0, 3000, 12.0, 100.0), LinkProfile(down_bps=5000), "x")
    assert (replayed.down_bps, replayed.up_bps) == (5000, 3000)
    assert (replayed.delay_ms, replayed.loss_percent) == (12.0, 100.0)


MISTAKES = [
    ("", "no rows"),
    ("time_s,rate\n", "no rows"),
    ("time_s,rate\n0,1Mbit\n", "how long it holds"),
    ("rate\n1Mbit\n", "line 1: there is no column time_s"),
    ("time_s\n0\n", "line 1: time_s alone"),
    ("time_s,speed\n0,1\n", "line 1: unknown column 'speed'"),
    ("time_s,rate,rate\n0,1,1\n", "rate is there twice"),
    ("time_s,rate,up\n0,1,1\n", "say the same thing twice"),
    ("time_s,rate\n0,1Mbit\n1\n", "line 3: 1 fields, but 2 headings"),
    ("time_s,rate\n1,1Mbit\n", "line 2: time_s is 1: the first row is at 0"),
    ("time_s,rate\n0,1Mbit\n0,2Mbit\n", "line 3: time_s 0 does not come after 0"),
    ("time_s,rate\n0,\n", "line 2: rate is empty in the first row"),
    ("time_s,rate\n0,5 apples\n", "line 2: rate: '5 apples' is no rate"),
    ("time_s,rate\n0,unlimited\n", "'unlimited' is no rate"),
    ("time_s,rate\n0,999\n", "line 2: down_bps is 999: 0, or 1000 and more"),
    ("time_s,rate\n0,900Gbit\n", "line 2: rate: '900Gbit' is no rate"),
    ("time_s,delay_ms\n0,-3\n", "line 2: delay_ms: '-3' is no number from 0"),
    ("time_s,delay_ms\n0,nan\n", "'nan' is no number"),
    ("time_s,delay_ms\n0,1e3\n", "'1e3' is no number"),
    ("time_s,delay_ms\n0,60001\n", "delay_ms is 60001: from 0 to 60000"),
    ("time_s,loss_percent\n0,101\n", "loss_percent is 101"),
    ("# duration_s: 1\ntime_s,rate\n0,1Mbit\n1,2Mbit\n", "end before duration_s 1"),
    ("# duration_s: 0\ntime_s,rate\n0,1Mbit\n", "duration_s is 0"),
    ("# duration_s: soon\ntime_s,rate\n0,1Mbit\n", "duration_s: 'soon' is no number"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=lambda value: repr(value)[:40])
def test_mistakes_in_a_csv_name_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as error:
        load_trace(path)
    assert str(error.value).startswith(str(path)) and said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_mahimahi_packets_become_rates() -> None:
    """Ten packets in 100 ms are 1.2 Mbit/s; packets at the very end of a bin belong to it."""
    text = "".join(f"{ms}\n" for ms in [*range(10, 101, 10), *range(105, 201, 5)])
    trace = parse_mahimahi(text, text, "x")
    assert trace.points == (TracePoint(0.0, 1_200_000, 1_200_000), TracePoint(0.1, 2_400_000, 2_400_000))
    assert trace.duration_s == 0.2


def test_a_long_gap_is_an_outage_and_a_short_one_a_slow_link() -> None:
    trace = parse_mahimahi("100\n500\n1200\n", None, "x")
    assert [(p.at_s, p.down_bps, p.up_bps) for p in trace.points] == [
        (0.0, 120_000, None),  # a packet in 100 ms
        (0.1, 30_000, None),  # a packet in 400 ms
        (0.5, 0, None),
        (1.1, 120_000, None),
    ]


ways = st.lists(st.integers(0, 4000), min_size=1, max_size=200).map(sorted).filter(lambda found: found[-1] > 0)


@given(ways, st.integers(1, 1000))
def test_as_many_bits_pass_as_there_are_packets(at_ms: list[int], bin_ms: int) -> None:
    trace = parse_mahimahi("\n".join(map(str, at_ms)), None, "x", bin_ms=bin_ms)
    ends = [*(p.at_s for p in trace.points[1:]), trace.duration_s]
    bits = sum((p.down_bps or 0) * (end_s - p.at_s) for p, end_s in zip(trace.points, ends, strict=True))
    # A rate is a whole number: half a bit a second off in every bin at most.
    assert bits == pytest.approx(12_000 * len(at_ms), abs=0.5 * trace.duration_s + 1e-6)
    assert trace.duration_s == at_ms[-1] / 1000


@given(ways, ways)
def test_the_shorter_direction_begins_anew(down: list[int], up: list[int]) -> None:
    both = parse_mahimahi("\n".join(map(str, down)), "\n".join(map(str, up)), "x")
    assert both.duration_s == max(down[-1], up[-1]) / 1000
    for field, at_ms in (("down_bps", down), ("up_bps", up)):
        alone = parse_mahimahi("\n".join(map(str, at_ms)), None, "x")
        for t_ms in range(0, round(both.duration_s * 1000), 37):
            expected = alone.at((t_ms % at_ms[-1]) / 1000).down_bps
            assert getattr(both.at(t_ms / 1000), field) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "more than 0 ms"),
        ("0\n0\n", "more than 0 ms"),
        ("1\n3\n2\n", "line 3: 2 ms comes after 3 ms"),
        ("1\n-3\n", "line 2: '-3' is no whole number"),
        ("1.5\n", "line 1: '1.5' is no whole number"),
        ("١\n", "is no whole number"),
        ("9" * 5000, "is no whole number"),
        ("999999999999\n", "lasts 999999999999 ms"),
    ],
)
def test_mistakes_in_a_mahimahi_file(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.trace"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError, match=said) as error:
        load_trace(path)
    assert str(error.value).startswith(str(path))


def test_two_lengths_that_would_never_end_are_refused() -> None:
    with pytest.raises(TraceError, match="so much longer"):
        parse_mahimahi("1\n", "600000000\n", "x", bin_ms=10_000)


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "folder.csv").mkdir()
    for name, said in (
        ("binary.csv", "not a text file"),
        ("folder.csv", "directory"),
        ("none.csv", "no trace file at"),
        ("none.up", "no trace file at"),
        ("nul\0.csv", "null byte"),
    ):
        with pytest.raises(TraceError, match=said):
            load_trace(tmp_path / name)
    with pytest.raises(TraceError, match="did you mean lte-drive"):
        load_trace("lte-drvie")


rows = st.lists(
    st.one_of(
        st.sampled_from(
            ["time_s,rate", "time_s,down,up,delay_ms,loss_percent", "# duration_s: 9", "0,1Mbit", "1,,0,3,9"]
        ),
        st.lists(st.text("0123456789.,-+eE xnaif", max_size=8), max_size=6).map(",".join),
        st.text(max_size=12),
    ),
    max_size=8,
)


@given(rows.map("\n".join) | st.text(max_size=60))
@example("time_s,rate\n0,1Mbit\n" + "9" * 14 + ",")
def test_whatever_a_text_says_a_trace_or_a_trace_error_comes_of_it(text: str) -> None:
    for parse in (parse_csv, lambda text, name: parse_mahimahi(text, text, name)):
        try:
            trace = parse(text, "x")
        except TraceError as error:
            assert str(error)
        else:
            for point in trace.points:
                profile_at(point, LinkProfile(), "x")  # figures that a link can have


@given(st.binary(max_size=80), st.sampled_from([".csv", ".trace", ".up", ".down", ".yaml", ""]))
def test_whatever_is_in_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzzed{suffix}"
    path.write_bytes(content)
    try:
        load_trace(path)
    except TraceError as error:
        assert str(error)
    finally:
        path.unlink()


points = st.builds(
    TracePoint,
    at_s=st.just(0.0),
    down_bps=st.sampled_from([0, 1000, 10**11]) | st.integers(1000, 10**11),
    up_bps=st.integers(1000, 10**11),
    delay_ms=st.floats(0, 60_000),
    loss_percent=st.floats(0, 100),
)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    found, gaps = draw(st.lists(points, min_size=1, max_size=6)), st.integers(1, 5000)
    times, at_s = [], 0.0
    for _ in found:
        times.append(at_s)
        at_s = round(at_s + draw(gaps) / 1000, 3)
    placed = tuple(
        TracePoint(t, p.down_bps, p.up_bps, p.delay_ms, p.loss_percent) for t, p in zip(times, found, strict=True)
    )
    return Trace("drawn", "hypothesis", placed, at_s, draw(st.booleans()))


@given(traces())
def test_a_trace_survives_its_csv(trace: Trace) -> None:
    read = parse_csv(trace.to_csv(), trace.name)
    assert (read.points, read.duration_s, read.source) == (trace.points, trace.duration_s, trace.source)


@given(traces(), st.floats(0, 60))
def test_unrolled_is_what_holds_at_every_moment(trace: Trace, until_s: float) -> None:
    steps = list(trace.unrolled(until_s))
    times = [at_s for at_s, _ in steps]
    assert times == sorted(set(times)) and all(at_s < until_s for at_s in times)
    for at_s, point in steps:
        round_s = at_s - trace.duration_s * round((at_s - point.at_s) / trace.duration_s)
        assert abs(round_s - point.at_s) < 1e-6
        assert trace.loop or at_s == point.at_s
    whole = len([p for p in trace.points if p.at_s < until_s])
    assert len(steps) >= whole if trace.loop else len(steps) == whole


@pytest.mark.parametrize("name", list_traces())
def test_shipped_traces_are_fresh_and_like_what_they_are_called(name: str) -> None:
    trace = load_trace(name)
    for file, text in make.files().items():
        assert (TRACE_FOLDER / file).read_text() == text, f"{file} is stale: python -m gannet.netem.traces.make"
    assert {path.name for path in TRACE_FOLDER.iterdir() if path.suffix in (".csv", ".up", ".down")} == {
        *make.files()
    }
    assert trace.source and 10 <= trace.duration_s <= 300
    assert sum((p.down_bps or 0) >= 1_000_000 for p in trace.points) > 0.8 * len(trace.points)


def test_starlink_changes_its_path_every_fifteen_seconds() -> None:
    starlink = load_trace("starlink")
    lossy = [point.at_s for point in starlink.points if (point.loss_percent or 0) > 5]
    assert lossy == [15.0 * slot for slot in range(8)]
    assert any(point.down_bps == 0 for point in load_trace("lte-drive").points)
