"""What readings of a node say against the time between them, a whole run, and clocks."""

from __future__ import annotations

import random

import pytest

from gannet.netem.measure.bad_intervals import BadWindow, bad_windows, clock_drift_ppm, drift_reasons, run_reasons

BEFORE = {"released": 1000, "late": 10, "overruns": 0, "refused_verdicts": 0}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"released": 2000, "late": 60}, ""),
        ({"released": 2000, "late": 61, "late_max_ms": 7.25}, "51 of 1000 packets were held over 1 ms too long"),
        ({"released": 1003, "late": 13}, ""),  # three of three, but three are nothing
        ({"released": 40, "late": 7}, "7 of 40 packets"),  # a new engine counts from zero
        ({"released": 2000, "late": 10, "overruns": 2, "refused_verdicts": 1}, "overrun 3 times"),
        ({"released": 2000, "late": 10, "run_queue_ms": 240}, ""),
        ({"released": 2000, "late": 10, "run_queue_ms": 260}, "waited 260 ms for a CPU"),
        ({"tx_bytes": 5}, ""),
    ],
)
def test_a_window_is_bad_by_what_the_engine_counted(now: dict[str, float], said: str) -> None:
    found = bad_windows(BEFORE, now, 4.0, 5.0)
    assert [(a, b) for a, b, _ in found] == ([(4.0, 5.0)] if said else [])
    assert said in " ".join(what for *_, what in found)


def test_what_an_engine_reports_of_a_run() -> None:
    assert run_reasons({2: {"tx_bytes": 5}}) == []
    assert run_reasons({2: {"released": 10_000, "late": 100, "overruns": 0}}) == []
    assert run_reasons({2: {"released": 20, "late": 1}}) == []
    (late,) = run_reasons({0: {"released": 9, "late": 0}, 2: {"released": 10_000, "late": 101}, 3: {"late": 2}})
    assert "(node 2: 101 of 10000, node 3: 2 of 0)" in late
    assert "overrun" in run_reasons({2: {"released": 10_000, "late": 0, "overruns": 1}})[0]


def test_bad_windows_are_a_reason_when_they_are_much_of_a_run() -> None:
    windows = [BadWindow(node, at_s, at_s + 1, "late") for node in (0, 1) for at_s in (3.0, 4.0)]
    windows.append(BadWindow(2, 8.0, 10.0, "too few CPUs"))
    # The same second at two nodes counts once: 4 s in all.
    assert run_reasons({}, windows=windows, run_s=40.1) == []
    (reason,) = run_reasons({}, windows=windows, run_s=39.9)
    assert reason == (
        "links deviated from their profile for 4.0 of 39.9 s: 5 bad windows, the longest at node 2 from 8.0 to "
        "10.0 s (too few CPUs)"
    )


def test_clocks_that_drift_are_told_from_answers_that_come_late() -> None:
    chance = random.Random(1)
    drifts = {}
    for node, drift_ppm in enumerate((0, 40, 300, -250)):
        points = []
        for second in range(60):
            ours = second * 10**9
            theirs = 5 * 10**12 + round(ours * (1 + drift_ppm / 1e6)) + chance.randrange(2_000_000)
            points.append((ours, theirs))
        found = clock_drift_ppm(points)
        assert found == pytest.approx(drift_ppm, abs=40)
        drifts[node] = found
    assert [reason.split(":")[0] for reason in drift_reasons(drifts)] == ["node 2", "node 3"]
    assert clock_drift_ppm([(n * 10**9, n * 10**9) for n in range(15)]) is None  # too early to tell
    assert drift_reasons({0: None}) == []
