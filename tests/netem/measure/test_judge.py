"""Judging links: a right one passes as often as is promised, a wrong one fails (fates.py makes the packets)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gannet.netem.links.plan import FRAME_BYTES, BurstPlan, InterfacePlan, PathPlan
from gannet.netem.measure.certificate import FanResult, expected_edge
from gannet.netem.measure.judge import Order, judge_edge
from gannet.netem.measure.judge_busy import judge_busy_edge
from gannet.netem.measure.judge_fan import judge_fan
from gannet.netem.measure.tolerances import TOLERANCES
from tests.netem.measure.fates import Link

RATE_BPS = 10_000_000
APART_MS = 20.0


def order(rate_bps: int | None = RATE_BPS, back: PathPlan | None = None, **path: Any) -> Order:
    plan = PathPlan(**path)
    sender = InterfacePlan("mesh0", "10.0.0.1", rate_bps, rate_bps, 125_000, 125_000)
    receiver = InterfacePlan("mesh0", "10.0.0.2", rate_bps, rate_bps, 125_000, 125_000, {"10.0.0.1": plan})
    expected = expected_edge([sender, receiver], 0, 1)
    return Order(expected, plan, back or PathPlan(delay_ms=1), back is not None, echo_interval_s=APART_MS / 1000)


def delays(ms: float, count: int = 40) -> dict[str, Any]:
    fates = {"received": count, "duplicates": 0, "overtakers": 0, "bursts": 0}
    return {"sent": 40, "one_way_ms": [ms] * count, "rtt_ms": [2 * ms] * count, **(fates if count == 40 else {})}


def train(rate_bps: float | None, sent: int = 800, received: int = 800) -> dict[str, Any]:
    found = {"sent": sent, "received": received, "rate_bps": rate_bps, "run_rate_bps": rate_bps}
    return {**found, "duplicates": 0, "overtakers": 0, "bursts": sent - received}


BURSTS = BurstPlan(1, 20)
PLANS = {
    "plain": {"delay_ms": 25},
    "uniform": {"delay_ms": 25, "jitter_ms": 5},
    "normal": {"delay_ms": 40, "jitter_ms": 5, "jitter_distribution": "normal"},
    "pareto": {"delay_ms": 40, "jitter_ms": 5, "jitter_distribution": "pareto"},
    "loss": {"delay_ms": 25, "loss_percent": 3},
    "bursts": {"delay_ms": 25, "bursts": BURSTS},
    "soft bursts": {"delay_ms": 25, "bursts": BurstPlan(2, 30, 80, 0.5), "loss_percent": 1},
    "reorder": {"delay_ms": 70, "reorder_percent": 5},
    "duplicate": {"delay_ms": 25, "duplicate_percent": 4},
    "corrupt": {"delay_ms": 25, "corrupt_percent": 3},
    "everything": {
        "delay_ms": 70, "jitter_ms": 4, "jitter_distribution": "normal", "loss_percent": 2, "reorder_percent": 3,
        "duplicate_percent": 2, "corrupt_percent": 1,
    },
}  # fmt: skip


def failures(planned: Order, real: PathPlan, rate_bps: float, confidence: float, looks: int) -> int:
    failed = 0
    for seed in range(looks):
        link = Link(real, rate_bps, seed)
        failed += not judge_edge(planned, link.echoes(100, APART_MS), link.train(800), confidence).ok
    return failed


@pytest.mark.parametrize("name", PLANS)
def test_a_link_as_planned_passes_with_the_stated_probability(name: str) -> None:
    """Ten figures are judged, each with that confidence: so many first looks may fail, and hardly a second."""
    planned = order(**PLANS[name])
    assert failures(planned, planned.path, RATE_BPS, TOLERANCES.loss_confidence, 200) <= 200 * 10 * 0.01
    assert failures(planned, planned.path, RATE_BPS, TOLERANCES.second_confidence, 200) <= 200 * 10 * 0.001 + 2


WRONG: list[tuple[str, dict[str, Any], float]] = [
    ("plain", {"delay_ms": 27}, 1.0),
    ("plain", {"delay_ms": 23}, 1.0),
    ("plain", {"jitter_ms": 6}, 1.0),
    ("plain", {"loss_percent": 2}, 1.0),
    ("plain", {"duplicate_percent": 2}, 1.0),
    ("plain", {"delay_ms": 70, "reorder_percent": 4}, 1.0),
    ("plain", {}, 0.93),
    ("plain", {}, 1.07),
    ("uniform", {"jitter_ms": 0}, 1.0),
    ("uniform", {"jitter_ms": 12}, 1.0),
    ("normal", {"jitter_ms": 0}, 1.0),
    ("normal", {"jitter_ms": 15}, 1.0),
    ("pareto", {"jitter_ms": 0}, 1.0),
    ("loss", {"loss_percent": 0}, 1.0),
    ("loss", {"loss_percent": 8}, 1.0),
    ("bursts", {"bursts": None, "loss_percent": BURSTS.loss_percent}, 1.0),
    ("bursts", {"bursts": BurstPlan(20, 30)}, 1.0),
    ("reorder", {"reorder_percent": 0}, 1.0),
    ("reorder", {"reorder_percent": 15}, 1.0),
    ("duplicate", {"duplicate_percent": 0}, 1.0),
    ("duplicate", {"duplicate_percent": 12}, 1.0),
    ("corrupt", {"corrupt_percent": 0}, 1.0),
    ("corrupt", {"corrupt_percent": 10}, 1.0),
]


@pytest.mark.parametrize(("name", "changed", "rate_share"), WRONG)
def test_a_wrong_link_fails_the_second_look_too(name: str, changed: dict[str, Any], rate_share: float) -> None:
    planned = order(**PLANS[name])
    real = replace(planned.path, **changed)
    assert failures(planned, real, rate_share * RATE_BPS, TOLERANCES.second_confidence, 100) >= 99


@pytest.mark.parametrize(
    ("measured_ms", "rate_bps", "ok"),
    [
        (25.0, 10e6, True),
        (25.9, 10.4e6, True),
        (24.1, 9.6e6, True),
        (26.1, 10e6, False),
        (23.9, 10e6, False),
        (25.0, 9.4e6, False),
        (25.0, 10.6e6, False),
    ],
)
def test_tolerances(measured_ms: float, rate_bps: float, ok: bool) -> None:
    result = judge_edge(order(delay_ms=25), delays(measured_ms), train(rate_bps))
    assert result.ok is ok
    assert len(result.reasons) == (0 if ok else 1)


def test_long_delays_are_judged_by_their_share() -> None:
    assert judge_edge(order(delay_ms=300), delays(305.9), train(10e6)).ok
    assert not judge_edge(order(delay_ms=300), delays(306.1), train(10e6)).ok


def test_between_two_clocks_a_delay_is_the_round_trip_less_the_planned_way_back() -> None:
    there = order(delay_ms=25, back=PathPlan(delay_ms=40))
    # The arrival stamps are another machine's: only how they spread is looked at.
    answer = {**delays(0), "one_way_ms": [-7e6] * 40, "rtt_ms": [66.5] * 40}
    result = judge_edge(there, answer, train(10e6))
    assert result.ok and result.from_round_trip
    assert (result.delay_p50_ms, result.rtt_p50_ms) == (26.5, 66.5)
    assert judge_busy_edge(there, 0.0, answer).ok
    for rtt_ms in (60.0, 70.0):  # each way may be 1 ms amiss, and no more
        answer["rtt_ms"] = [rtt_ms] * 40
        assert not judge_edge(there, answer, train(10e6)).ok
        assert not judge_busy_edge(there, 0.0, answer).ok


def test_a_lossy_train_is_thinner_than_its_link() -> None:
    result = judge_edge(order(loss_percent=10), delays(0.1, 36), train(9e6, 800, 720))
    assert result.ok
    assert result.measured_rate_bps == pytest.approx(10e6)
    assert result.loss_percent == pytest.approx(10)
    low, high = result.loss_interval_percent or (0, 0)
    assert low < 10 < high and high - low == pytest.approx(4.2, abs=0.2)  # ± 1.96 √(0.1 · 0.9 / 800)


def test_a_train_that_its_sender_had_no_time_to_send_says_so() -> None:
    result = judge_edge(order(), delays(0.1), {**train(8e6), "offered_bps": 8.1e6})
    assert result.reasons == ("rate 8 Mbit/s, not 10 Mbit/s (± 5%); the sender offered 8.1: it had too little CPU",)


def test_a_dead_link_is_a_verdict_and_a_cut_one_is_as_ordered() -> None:
    result = judge_edge(order(), delays(0, 0), train(None, 800, 0))
    assert not result.ok
    assert len(result.reasons) == 3
    assert result.measured_rate_bps is None
    assert judge_edge(order(loss_percent=100), delays(0, 0), train(None, 800, 0)).ok
    assert not judge_edge(order(loss_percent=100), delays(0, 0), train(10e6, 800, 1)).ok


def test_an_uncapped_link_is_measured_but_not_judged_by_its_rate() -> None:
    result = judge_edge(order(None), delays(0.1), train(4e9, 800, 500))
    assert result.ok
    assert result.measured_rate_bps == 4e9
    assert result.loss_samples == 40 and result.loss_percent == 0  # of the echoes: the train overflowed something
    assert not judge_edge(order(None), {**delays(0.1), "received": 38}, train(4e9)).ok


def test_where_queues_drop_by_themselves_losses_are_those_of_echoes() -> None:
    rough = replace(order(), gentle=False)
    assert judge_edge(rough, delays(0.1), train(10e6, 800, 600)).ok
    assert not judge_edge(rough, {**delays(0.1), "received": 38}, train(10e6, 800, 600)).ok


@pytest.mark.parametrize(
    ("measured_ms", "loss_percent", "loss_back_percent", "count", "said"),
    [
        (25, 0, 0, 40, ""),
        (90, 0, 0, 40, ""),  # queued behind training, which 100 ms of buffers explain
        (127, 0, 0, 40, "least one-way delay 127"),
        (23, 0, 0, 40, "least one-way delay 23"),
        (25, 10, 10, 20, ""),
        (0, 0, 0, 0, "none of 40 echoes"),
        (0, 50, 50, 0, "none of 40 echoes"),
        (0, 50, 99.9, 0, ""),  # so few are to be expected that none is no proof
        (0, 100, 0, 0, ""),
        (0, 0, 100, 0, ""),
        (25, 100, 0, 3, "3 of 40 echoes came back, though"),
    ],
)
def test_a_link_in_use_is_judged_by_what_traffic_cannot_explain(
    measured_ms: float, loss_percent: float, loss_back_percent: float, count: int, said: str
) -> None:
    wanted = replace(order(delay_ms=25, loss_percent=loss_percent), back=PathPlan(loss_percent=loss_back_percent))
    result = judge_busy_edge(wanted, 100, delays(measured_ms, count))
    assert result.ok == (not said) and said in " ".join(result.reasons)


def test_an_agent_that_fails_is_a_reason_against_its_link() -> None:
    result = judge_busy_edge(order(), 100, {"error": "node0: probe: no answer within 3 s"})
    assert result.reasons == ("node0: probe: no answer within 3 s",)


def flow(first_bin: int, counts: list[int]) -> dict[str, Any]:
    return {"frame_bytes": FRAME_BYTES, "first_bin": first_bin, "bins": counts}


FAN = FanResult(3, "in", (0, 1, 2), 3 * 8 * FRAME_BYTES * 5 / 0.01, None)


@pytest.mark.parametrize(("frames", "ok"), [(5, True), (4, False), (6, False)])
def test_all_at_once_counts_while_all_send(frames: int, ok: bool) -> None:
    """Each begins and ends at another time, where the others get more."""
    result = judge_fan(FAN, [flow(100, [frames] * 60)] * 3, [PathPlan()] * 3, 0.01)
    assert result.ok is ok
    assert result.measured_rate_bps == pytest.approx(FAN.expected_rate_bps * frames / 5)
    early = [flow(100, [9] * 20 + [frames] * 40), flow(120, [frames] * 60), flow(110, [9] * 10 + [frames] * 50)]
    assert judge_fan(FAN, early, [PathPlan()] * 3, 0.01).ok is ok


def test_who_is_not_heard_or_not_together_fails_the_fan() -> None:
    silent = judge_fan(FAN, [flow(1, [5] * 60), flow(1, [5] * 60), {"bins": []}], [PathPlan()] * 3, 0.01)
    assert silent.reasons == ("nothing arrived of 1 of 3 peers",)
    apart = judge_fan(FAN, [flow(70 * n, [5] * 60) for n in range(3)], [PathPlan()] * 3, 0.01)
    assert apart.reasons == ("the peers sent together for only 0.00 s",)


def test_losses_behind_the_bottleneck_are_made_up_for() -> None:
    thinned = [flow(100, [4] * 60)] * 3
    assert not judge_fan(FAN, thinned, [PathPlan()] * 3, 0.01).ok
    assert judge_fan(FAN, thinned, [PathPlan(loss_percent=20)] * 3, 0.01).ok
