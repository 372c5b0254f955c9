"""What the report tells of links: intervals, all peers at once, bad windows, tolerances, how TCP was set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gannet.ledger.reader import read_comparison, read_run
from gannet.netem.measure.certificate import Certificate, EdgeResult, FanResult
from gannet.report import write_report
from gannet.report.link_tables import Cell, describe_stack, link_tables, tolerance_rows
from tests.report.ledger_factory import RunPlan, write_comparison
from tests.report.test_html import Page


def written(folder: Path, **changes: Any) -> Path:
    """A comparison of one run; `changes` go into its certificate."""
    write_comparison(folder, [RunPlan("a", "A", 1)])
    path = folder / "a" / "seed-1" / "certificate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_what_a_certificate_holds_is_shown(tmp_path: Path) -> None:
    certificate = Certificate(seconds=7.5)
    certificate.add_edge(
        EdgeResult(
            0, 1, 10e6, 9.95e6, 25.0, 2.0, 25.2, 27.5, 50.4, 10.0, 9.5, delay_p5_ms=23.1, delay_deviation_ms=1.2,
            delay_interval_ms=(25.0, 25.5), rate_interval_bps=(9.9e6, 10e6), loss_interval_percent=(7.1, 12.4),
            loss_samples=400, expected_burst_packets=9.0, burst_packets=8.6, expected_reorder_percent=3.0,
            reordered_percent=2.8, duplicate_percent=0.0,
        )
    )  # fmt: skip
    certificate.add_fan(FanResult(1, "in", (0, 2, 3), 10e6, 9.9e6, (9.8e6, 10e6)))
    folder = written(tmp_path / "c", **certificate.to_json())
    tables = link_tables(read_run(folder / "a" / "seed-1"))
    assert tables.links == [
        (
            Cell("0 → 1"), Cell("10 Mbit/s"), Cell("9.95 Mbit/s", "9.9 Mbit/s to 10 Mbit/s"), Cell("25 ms", "± 2 ms"),
            Cell("25.2 ms", "25 to 25.5 ms"), Cell("23.1 to 27.5 ms", "deviation 1.2 ms"), Cell("50.4 ms"),
            Cell("9.5%", "7.1 to 12.4%; set: 10%; bursts: 8.6 packets, set: 9"), Cell("2.8%, 0%"),
            Cell("ok"),
        )
    ]  # fmt: skip
    assert tables.fans[0][:3] == (Cell("into node 1"), Cell("3"), Cell("10 Mbit/s"))
    plain = Page(write_report(read_comparison(folder)).read_text(encoding="utf-8")).plain
    for text in (
        "25 to 25.5 ms",
        "All peers at once",
        "into node 1",
        "Measuring the links took 7.5 s",
        "95% interval",
    ):
        assert text in plain
    for name, allowed in tolerance_rows():
        assert name in plain and allowed in plain


def test_an_old_certificate_still_makes_its_table(tmp_path: Path) -> None:
    edge = {
        "src": 0, "dst": 1, "expected_rate_bps": 1e7, "measured_rate_bps": 8e6, "expected_delay_ms": 25.0,
        "expected_jitter_ms": 0.0, "delay_p50_ms": 25.1, "delay_p95_ms": 25.3, "rtt_p50_ms": 50.2,
        "expected_loss_percent": 0.0, "loss_percent": 0.0, "ok": False, "reasons": ["rate 8"],
    }  # fmt: skip
    folder = tmp_path / "c"
    write_comparison(folder, [RunPlan("a", "A", 1, trusted=False, reasons=("rate 8",))])
    run = folder / "a" / "seed-1"
    (run / "certificate.json").write_text(json.dumps({"trusted": False, "reasons": ["rate 8"], "edges": [edge]}))
    tables = link_tables(read_run(run))
    assert tables.fans == [] and tables.windows == [] and tables.measuring == ""
    assert tables.links[0][2:6] == (Cell("8 Mbit/s"), Cell("25 ms"), Cell("25.1 ms"), Cell("25.3 ms"))
    page = Page(write_report(read_comparison(folder)).read_text(encoding="utf-8"))
    assert "All peers at once" not in page.plain and "out of order" not in page.plain


def test_bad_windows_are_listed_with_their_times_and_are_no_events(tmp_path: Path) -> None:
    folder = written(tmp_path / "c")
    run = folder / "a" / "seed-1"
    with (run / "links.jsonl").open("a", encoding="utf-8") as file:
        for second in range(30):
            line = {
                "t_s": 5.5 + second,
                "event": "bad-window",
                "node": 2,
                "from_s": 4.5 + second,
                "to_s": 5.5 + second,
            }
            file.write(json.dumps({**line, "what": f"<b>{second} of 100 packets late"}) + "\n")
    found = read_run(run)
    assert len(found.windows) == 30 and not [event for event in found.events if event.event == "bad-window"]
    tables = link_tables(found)
    assert tables.windows[0] == ("node 2", "4.5 to 5.5 s", "<b>0 of 100 packets late")
    assert len(tables.windows) == 20 and tables.more_windows == 10
    page = Page(write_report(read_comparison(folder)).read_text(encoding="utf-8"))
    assert "Intervals in which links deviated from their profile" in page.plain and "And 10 more" in page.plain
    assert "30 bad intervals" in page.plain and "<b>0 of 100 packets late" in page.plain
    assert "At 5.5 s" not in page.plain


def test_how_tcp_was_set_is_one_line() -> None:
    stack = {"congestion_control": "bbr", "slow_start_after_idle": False, "mtu": {"0": 1450, "1": 1500}}
    said = describe_stack({"stack": stack})
    assert said == "congestion control bbr · slow start after idle off · MTU 1450 at node 0 and 1500 at node 1"
    assert describe_stack({"congestion_control": "cubic"}) == "congestion control cubic"
    assert describe_stack({}) == ""
