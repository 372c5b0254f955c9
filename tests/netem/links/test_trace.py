"""Traces: what files say against arithmetic on their lines; nothing but a trace or a TraceError comes of one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.trace import FIELDS, Outages, Trace, TraceError, TracePoint, Track, profile_at
from gannet.netem.links.trace_csv import parse_csv
from gannet.netem.links.trace_files import TRACE_FOLDER, list_traces, load_trace
from gannet.netem.links.trace_mahimahi import parse_mahimahi
from gannet.netem.traces import make

CSV = """# source: a drive
# duration_s: 3
time_s,down,up,delay_ms,loss_percent
0,20Mbit,5000 kbit/s,40,0
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
    ("time_s,rate_bps,rate_mbit\n0,1,1\n", "say the same thing twice"),
    ("time_s,rate,up\n0,1,1\n", "say the same thing twice"),
    ("time_s,rate\n0,1Mbit\n1\n", "line 3: 1 fields, but 2 headings"),
    ("time_s,rate\n1,1Mbit\n", "line 2: time_s is 1: the first row is at 0"),
    ("time_s,rate\n0,1Mbit\n0,2Mbit\n", "line 3: time_s 0 does not come after 0"),
    ("time_s,rate\n0,\n", "line 2: rate is empty in the first row"),
    ("time_s,rate\n0,5 apples\n", "line 2: rate: '5 apples' is no rate"),
    ("time_s,rate\n0,unlimited\n", "'unlimited' is no rate"),
    ("time_s,rate\n0,5000\n", "line 2: rate: '5000' has no unit: write 5000bit"),
    ("time_s,rate_bps\n0,999\n", "line 2: rate_bps: '999' is out of range"),
    ("time_s,up_mbit\n0,0.0005\n", "line 2: up_mbit: '0.0005' is out of range"),
    ("# loop: perhaps\ntime_s,rate\n0,1Mbit\n", "loop: 'perhaps' is neither yes nor no"),
    ("# outages: lose\ntime_s,rate\n0,1Mbit\n", "outages: 'lose' is neither drop nor keep"),
    ("# counts: tcp\ntime_s,rate\n0,1Mbit\n", "counts: 'tcp' is neither ethernet nor ip"),
    ("# duration_s: 2\ntime_s,rate\n0,1Mbit\n# loop: yes\n", "line 4: loop belongs above the rows"),
    ("# up_duration_s: 2\ntime_s,down\n0,1Mbit\n1,2Mbit\n", "up_duration_s without a column up"),
    ("# up_duration_s: 2\ntime_s,up\n0,1Mbit\n3,2Mbit\n", "rows of up must end before up_duration_s 2"),
    ("time_s,rate\n" + "9" * 5000, "line 2: longer than 4096 characters"),
    ("time_s,rate\n0,900Gbit\n", "line 2: rate: '900Gbit' is out of range"),
    ("time_s,delay_ms\n0,-3\n", "line 2: delay_ms: '-3' is no number from 0"),
    ("time_s,delay_ms\n0,nan\n", "'nan' is no number"),
    ("time_s,delay_ms\n0,1e3\n", "'1e3' is no number"),
    ("time_s,delay_ms\n0,60001\n", "delay_ms is 60001: from 0 to 60000"),
    ("time_s,loss_percent\n0,101\n", "loss_percent is 101"),
    ("# duration_s: 1\ntime_s,rate\n0,1Mbit\n1,2Mbit\n", "must end before duration_s 1"),
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


def test_units_and_layers_of_rates() -> None:
    """Every way to write 4 Mbit/s, and 4 Mbit/s of IP packets: 1514 bytes of frame for each 1500."""
    ways = ["rate\n0,4Mbit", "rate\n0,4 mbit/s", "rate_bps\n0,4000000", "rate_kbit\n0,4000", "rate_kbps\n0,4000.0"]
    ways += ["rate_mbit\n0,4", "RATE_Mbps\n0,4.0", "rate_gbit\n0,.004", "rate_mbit\n0,4000kbit"]
    for text in ways:
        (point,) = parse_csv(f"# duration_s: 9\ntime_s,{text}\n", "x").points
        assert (point.down_bps, point.up_bps) == (4_000_000, 4_000_000), text
        (point,) = parse_csv(f"# counts: IP\n# duration_s: 9\ntime_s,{text}\n", "x").points
        assert point.down_bps == round(4_000_000 * 1514 / 1500), text
    (point,) = parse_csv("# counts: ip\n# duration_s: 9\ntime_s,down,up\n0,4Mbit IP,0\n", "x").points
    assert (point.down_bps, point.up_bps) == (round(4_000_000 * 1514 / 1500), 0)


def test_a_run_that_0_1_has_recorded_is_still_read() -> None:
    old = "# source: s\n# duration_s: 4\ntime_s,down,up\n0,5000000,4000\n1,0,\n"
    assert parse_csv(old, "x", bare_bps=True).points == (TracePoint(0.0, 5_000_000, 4000), TracePoint(1.0, 0, 4000))


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


rates = st.lists(st.integers(1000, 2000), min_size=1, max_size=5)


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
    up = None
    if draw(st.booleans()):
        up = Track(tuple(TracePoint(0.25 * n, up_bps=r) for n, r in enumerate(draw(rates))), 0.25 * draw(gaps) + 50)
        placed = tuple(replace(point, up_bps=None) for point in placed)
    outages: Outages = draw(st.sampled_from(("drop", "keep")))
    return Trace("drawn", "hypothesis", placed, at_s, draw(st.booleans()), outages, up)


@given(traces())
def test_a_trace_survives_its_csv(trace: Trace) -> None:
    read = parse_csv(trace.to_csv(), trace.name)
    assert read == trace


@given(traces(), st.integers(1, 60_000))
def test_unrolled_is_what_applies_at_every_moment(trace: Trace, until_ms: int) -> None:
    steps = list(trace.unrolled(until_ms / 1000))
    times = [at_s for at_s, _ in steps]
    assert times == sorted(set(times)) and all(at_s < until_ms / 1000 for at_s in times)
    assert all(a.figures != b.figures for (_, a), (_, b) in pairwise(steps))
    end_ms = until_ms if trace.loop else min(until_ms, round(1000 * trace.length_s))
    for t_ms in range(0, end_ms, max(1, end_ms // 50)):
        _, present = [step for step in steps if step[0] <= t_ms / 1000][-1]
        for track in trace.tracks:
            round_ms = t_ms % round(1000 * track.duration_s)
            (*_, due) = (point for point in track.points if round(1000 * point.at_s) <= round_ms)
            said = {"up_bps"} if track is trace.up else {*FIELDS} - ({"up_bps"} if trace.up else set())
            assert all(getattr(due, field) == getattr(present, field) for field in said)


few_rates = st.lists(st.sampled_from([0, 1_000_000, 2_000_000]), min_size=1, max_size=12)


@given(few_rates, st.integers(1, 500), st.integers(0, 20_000), st.integers(0, 20_000))
def test_merging_never_changes_the_bits_allowed_in_any_window(
    rates_bps: list[int], step_ms: int, begin_ms: int, length_ms: int
) -> None:
    """Against the rate of every single millisecond of a trace of equal steps that loops."""
    points = tuple(TracePoint(round(n * step_ms / 1000, 3), bps) for n, bps in enumerate(rates_bps))
    trace = Trace("x", "", points, round(len(points) * step_ms / 1000, 3), loop=True)
    end_ms = begin_ms + length_ms
    plain = sum(rates_bps[t_ms // step_ms % len(rates_bps)] for t_ms in range(begin_ms, end_ms))
    steps = [*trace.unrolled(end_ms / 1000), (end_ms / 1000, points[0])]
    merged = 0
    for (at_s, point), (until_s, _) in pairwise(steps):
        assert point.down_bps is not None
        merged += point.down_bps * max(0, round(1000 * until_s) - max(begin_ms, round(1000 * at_s)))
    assert merged == plain
    repeats = sum(a == b for a, b in pairwise([*rates_bps, rates_bps[0]]))
    rounds = end_ms / (len(points) * step_ms)
    assert len(steps) - 1 <= (len(points) - repeats) * (rounds + 1) + 1


def test_a_trace_that_never_changes_is_one_step_for_any_length() -> None:
    constant = parse_csv("# loop: yes\ntime_s,rate\n" + "".join(f"{n},5Mbit\n" for n in range(1000)), "x")
    assert constant.is_constant and list(constant.unrolled(inf)) == [(0.0, TracePoint(0.0, 5_000_000, 5_000_000))]


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
