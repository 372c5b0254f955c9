"""Delays under load: a link whose order is kept by waiting is right when idle, and fails (see fates.py)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from gannet.netem.links.jitter import InOrder
from gannet.netem.links.plan import FRAME_BYTES, PathPlan
from gannet.netem.measure.judge import Order, judge_edge
from gannet.netem.measure.probe_plan import load_train
from gannet.netem.measure.tolerances import TOLERANCES
from tests.netem.link_lab import node_plan
from tests.netem.measure.fates import Link
from tests.netem.measure.test_judge import delays, order, train

TOLD = 41


def quantiles(delays_ms: list[float]) -> list[float]:
    ordered = sorted(delays_ms)
    return [ordered[round(n * (len(ordered) - 1) / (TOLD - 1))] for n in range(TOLD)]


def loaded(delays_ms: list[float], apart_ms: float) -> dict[str, Any]:
    return {
        **train(None, len(delays_ms), len(delays_ms)),
        "one_way_ms": quantiles(delays_ms),
        "load_s": len(delays_ms) * apart_ms / 1000,
    }


def frames(rate_mbit: float, again: bool = False, **path: Any) -> tuple[int, float]:
    """How many frames a certificate sends, and how far apart (ms)."""
    plans = [node_plan(rank, round(1e6 * rate_mbit), round(1e6 * rate_mbit), **path) for rank in range(2)]
    wanted = load_train(plans, (0, 1), again)
    assert wanted is not None
    return wanted[1], 8000 * FRAME_BYTES / wanted[0]


JITTERS: list[dict[str, Any]] = [
    {"delay_ms": 100, "jitter_ms": 20, "jitter_distribution": "normal"},
    {"delay_ms": 100, "jitter_ms": 40},
    {"delay_ms": 60, "jitter_ms": 10, "jitter_distribution": "pareto"},
]


@pytest.mark.parametrize("path", JITTERS, ids=lambda path: path.get("jitter_distribution", "uniform"))
def test_a_running_maximum_fails_under_load_alone(path: dict[str, Any]) -> None:
    count, apart_ms = frames(40, **path)
    planned, plan = order(**path), PathPlan(**path)
    wrong = right = 0
    for seed in range(60):
        waiting = Link(plan, 40e6, seed).deliver(count, apart_ms)
        found = judge_edge(
            planned, good_echoes(planned, seed), train(10e6),
            load=loaded([at_ms - number * apart_ms for at_ms, number in waiting], apart_ms),
        )  # fmt: skip
        wrong += any("under load" in reason for reason in found.reasons)
        process = InOrder(plan.jitter_distribution, Random(seed))
        process.set(plan.jitter_ms / 1000)
        kept = [plan.delay_ms + 1000 * process.at(number * apart_ms / 1000) for number in range(count)]
        found = judge_edge(planned, good_echoes(planned, seed), train(10e6), load=loaded(kept, apart_ms))
        right += not any("under load" in reason for reason in found.reasons)
    assert wrong >= 58 and right >= 57


def good_echoes(planned: Order, seed: int) -> dict[str, Any]:
    return Link(planned.path, 10e6, seed).echoes(100, 4 * planned.path.jitter_ms)


@pytest.mark.parametrize(
    ("late_ms", "ok"), [(0, True), (TOLERANCES.delay_ms + TOLERANCES.tail_ms - 0.1, True), (6, False), (-2, False)]
)
def test_a_delay_that_changes_under_load_fails(late_ms: float, ok: bool) -> None:
    found = judge_edge(order(delay_ms=25), delays(25.0), train(10e6), load=loaded([25.0 + late_ms] * 200, 1.0))
    assert found.ok is ok and found.loaded_delay_p50_ms == 25.0 + late_ms
    assert ok or "under load, not 25 ms" in found.reasons[0]


def test_between_two_clocks_the_load_is_judged_by_the_clocks_of_the_echoes() -> None:
    there = order(delay_ms=25, back=PathPlan(delay_ms=40))
    answer = {**delays(0), "one_way_ms": [-7e6] * 40, "rtt_ms": [65.0] * 40}
    assert judge_edge(there, answer, train(10e6), load=loaded([-7e6 + 0.5] * 100, 1.0)).ok
    assert not judge_edge(there, answer, train(10e6), load=loaded([-7e6 + 9] * 100, 1.0)).ok


def test_what_carries_too_few_frames_is_loaded_by_echoes() -> None:
    assert load_train([node_plan(rank, 35_000, 32_000, delay_ms=650) for rank in range(2)], (0, 1)) is None
    assert load_train([node_plan(rank, 10**7, 10**7, loss_percent=100) for rank in range(2)], (0, 1)) is None
    count, apart_ms = frames(10, delay_ms=25)
    assert count * apart_ms == pytest.approx(150, rel=0.05)
    again, _ = frames(10, True, delay_ms=25)
    assert again == pytest.approx(3 * count, abs=2)
