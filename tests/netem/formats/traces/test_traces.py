"""Traces of other programs: figures worked out by hand or parsed otherwise, in the right units and directions."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.formats.base import FormatError, Imported, Options
from gannet.netem.formats.registry import import_file
from gannet.netem.links.trace import Trace
from gannet.netem.links.trace_csv import parse_csv
from tests.netem.formats.single_link_files import FILES, PING


def imported(folder: Path, text: str, **said: Any) -> Imported:
    path = folder / "a file of no particular name"
    path.write_text(text)
    return import_file(path, Options(**said))


def trace(folder: Path, text: str, **said: Any) -> Trace:
    found = imported(folder, text, **said)
    assert found.kind == "trace"
    return parse_csv(found.content, "x")


def figures(found: Trace, field: str) -> list[tuple[float, Any]]:
    return [(point.at_s, getattr(point, field)) for point in found.points]


def test_mahimahi_under_any_name(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["Mahimahi"])
    read = parse_csv(found.content, "x")
    assert (read.duration_s, read.loop, read.outages) == (1.0, True, "keep")
    bits = sum(
        (end - point.at_s) * (point.down_bps or 0)
        for point, end in zip(read.points, [*(p.at_s for p in read.points[1:]), 1.0], strict=True)
    )
    assert bits == pytest.approx(5 * 1514 * 8)
    assert any("mean 60 kbit/s of IP" in fact for fact in found.facts)  # 5 packets of 12,000 bits in a second


def test_the_rate_of_a_cooked_trace_is_that_of_the_interval_that_ends_there(tmp_path: Path) -> None:
    found = imported(tmp_path, FILES["cooked trace (Pensieve)"])
    read = parse_csv(found.content, "x")
    assert figures(read, "down_bps") == [(0, 2_000_000), (1, 5_000_000), (3, 0)]
    assert (read.duration_s, read.loop) == (3.5, True)
    assert "down: mean 3.428571 Mbit/s, minimum 0 Mbit/s, maximum 5 Mbit/s" in found.facts  # (2 + 2·5) / 3.5
    assert any("begins at 7 s" in fact for fact in found.facts)
    assert any("first line" in each for each in found.dropped)
    in_kbit = trace(tmp_path, FILES["cooked trace (Pensieve)"], unit="kbit")
    assert figures(in_kbit, "down_bps")[0] == (0, 2000)


def test_a_cooked_trace_whose_unit_cannot_be_mbit_is_asked_for(tmp_path: Path) -> None:
    text = "0 1\n1 20000000\n2 40000000\n"
    with pytest.raises(FormatError, match="--unit bit"):
        imported(tmp_path, text)
    assert figures(trace(tmp_path, text, unit="bit"), "down_bps") == [(0, 20_000_000), (1, 40_000_000)]


def test_bins_average_by_time(tmp_path: Path) -> None:
    text = "0 1\n0.5 2\n0.75 6\n3.25 4\n3.5 8\n"  # 2 for 0.5 s, 6 for 0.25 s, 4 for 2.5 s, 8 for 0.25 s
    read = trace(tmp_path, text, bin_ms=1000)
    assert figures(read, "down_bps") == [(0, 3_500_000), (1, 4_000_000), (3, 6_000_000)]
    assert read.duration_s == 3.5


def test_sabre_has_round_trips(tmp_path: Path) -> None:
    read = trace(tmp_path, FILES["Sabre network"])
    assert figures(read, "down_bps") == [(0, 4_000_000), (2, 800_000)]
    assert figures(read, "delay_ms") == [(0, 40), (2, 10)]
    assert (read.duration_s, read.loop, read.touches("up_bps")) == (8, True, False)
    assert figures(trace(tmp_path, FILES["Sabre network"], round_trip=False), "delay_ms") == [(0, 80), (2, 20)]


def test_iperf3_knows_its_direction_and_omits_what_was_omitted(tmp_path: Path) -> None:
    read = trace(tmp_path, FILES["iperf3 report"])
    assert figures(read, "down_bps") == [(0, 8_000_000), (1, 2_000_000)]
    assert not read.touches("up_bps")
    assert read.duration_s == 3
    report = json.loads(FILES["iperf3 report"])
    report["start"]["test_start"]["reverse"] = 0
    assert figures(trace(tmp_path, json.dumps(report)), "up_bps") == [(0, 8_000_000), (1, 2_000_000)]
    for interval in report["intervals"]:
        interval["sum_bidir_reverse"] = {"bits_per_second": 1e6}
    both = trace(tmp_path, json.dumps(report))
    assert figures(both, "up_bps") == [(0, 8_000_000), (1, 2_000_000)]
    assert {down for _, down in figures(both, "down_bps")} == {1_000_000}


def test_ucc_averages_doubled_seconds_holds_over_gaps_and_halves_pings(tmp_path: Path) -> None:
    text = FILES["UCC 4G/5G log"]
    found = imported(tmp_path, text)
    read = parse_csv(found.content, "x")
    rows = list(csv.DictReader(io.StringIO(text)))
    second = {row["Timestamp"][-2:]: [r for r in rows if r["Timestamp"] == row["Timestamp"]] for row in rows}
    down = [(int(at) - 30, 1000 * sum(int(r["DL_bitrate"]) for r in rs) / len(rs)) for at, rs in second.items()]
    assert figures(read, "down_bps") == down == [(0, 2_000_000), (1, 0), (4, 5_000_000)]
    assert figures(read, "up_bps") == [(0, 200_000), (1, 200_000), (4, 500_000)]
    assert figures(read, "delay_ms") == [(0, 30), (1, 20), (4, 20)]
    assert read.duration_s == 5
    told = " ".join(found.facts)
    assert "several rows: 1" in told
    assert "gaps: 1, up to 3 s" in told
    assert "state I (idle): 1" in told
    assert any("Speed" in each for each in found.dropped)


def test_a_first_ping_that_comes_later_applies_from_the_beginning(tmp_path: Path) -> None:
    text = PING + "2019.12.14_10.16.30,D,-,1000,100,0\n2019.12.14_10.16.31,D,80,2000,100,0\n"
    assert figures(trace(tmp_path, text), "delay_ms") == [(0, 40), (1, 40)]


def test_mtu_is_upwards(tmp_path: Path) -> None:
    read = trace(tmp_path, FILES["MTU 5G log"])
    assert figures(read, "up_bps") == [(0, 12_500_000), (1, 30_000_000)]
    assert not read.touches("down_bps")


def test_lens_pings_are_halved_binned_and_lost_one_way(tmp_path: Path) -> None:
    read = trace(tmp_path, FILES["LENS latencies"])
    assert figures(read, "delay_ms") == [(0, 25), (0.1, 15)]
    lost = figures(read, "loss_percent")
    assert lost[0] == (0, 0)
    # Half of the probes of the second bin came back, so each way delivers √0.5.
    assert (1 - lost[1][1] / 100) ** 2 == pytest.approx(0.5, abs=1e-6)
    assert read.duration_s == pytest.approx(0.2)
    whole = trace(tmp_path, FILES["LENS latencies"], bin_ms=1000)
    assert figures(whole, "delay_ms") == [(0, pytest.approx(130 / 6, abs=1e-5))]


def test_irtt_probes_in_nanoseconds(tmp_path: Path) -> None:
    text = "timestamp(ns),rtt,uplink,downlink\n1700000000000000000,50,30,20\n1700000000110000000,-1,30,-1\n"
    found = imported(tmp_path, text)
    read = parse_csv(found.content, "x")
    assert figures(read, "delay_ms") == [(0, 25), (0.1, 25)]
    assert figures(read, "loss_percent") == [(0, 0), (0.1, 100)]
    assert any("uplink 30 ms and downlink 20 ms" in each for each in found.dropped)


@pytest.mark.parametrize(
    ("text", "said", "message"),
    [
        ("0 1\n1 2\n1 3\n2 4\n", {"format": "cooked trace (Pensieve)"}, "line 3: 1 s does not come after 1 s"),
        ("0 1\n1 2\n2 3\n3 -4\n", {"format": "cooked trace (Pensieve)"}, "line 4: down is -4e"),
        (FILES["Mahimahi"], {"name": "x"}, "leave out --name"),
        (FILES["Mahimahi"], {"unit": "ms"}, "leave out"),
        (FILES["Mahimahi"], {"format": "pcap"}, "known are Mahimahi"),
        (PING + "2019.12.14_10.16.30,D,-,1000\n", {}, "line 2: 4 fields, but 6 headings"),
        (PING + "2019.13.14_10.16.30,D,-,1000,1,1\n", {}, "line 2: '2019.13.14_10.16.30' is no time"),
        ("timestamp,rtt\n1,-1\n", {}, "every probe was lost"),
        ("timestamp,rtt\n1,-2\n", {}, "a latency below 0"),
        ('[{"duration_ms": 0, "bandwidth_kbps": 1}]', {}, "period 0: times must grow"),
    ],
)
def test_what_is_wrong_is_one_error_that_says_where(
    tmp_path: Path, text: str, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError) as refused:
        imported(tmp_path, text, **said)
    assert message in str(refused.value)


def test_a_long_file_is_read_line_by_line(tmp_path: Path) -> None:
    rows = 400_000
    path = tmp_path / "long"
    with path.open("w") as file:
        file.writelines(f"{n / 10:.1f} {3 + n // 100_000}\n" for n in range(rows))
    assert path.stat().st_size > 3_000_000
    tracemalloc.start()
    found = import_file(path, Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert [point.down_bps for point in parse_csv(found.content, "x").points] == [3e6, 4e6, 5e6, 6e6]


def test_a_trace_of_too_many_changes_says_what_to_type(tmp_path: Path) -> None:
    text = "".join(f"{n / 10:.1f} {1 + n % 2}\n" for n in range(200_100))
    with pytest.raises(FormatError, match="--bin-ms 1000"):
        imported(tmp_path, text)
    binned = trace(tmp_path, text, bin_ms=1000)
    assert figures(binned, "down_bps") == [(0, 1_500_000)] or len(binned.points) < 10
