"""Jitter as packets meet it, at the rates of a ping and of training: mean, deviation, order (see conformance.py)."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median

import pytest

from gannet.netem.links.jitter import deviation
from gannet.netem.links.plan import PathPlan
from tests.netem.engines.conformance import EMULATED, counts, with_paths
from tests.netem.link_lab import Lab, node_plan
from tests.netem.statistic import mean_deviation
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")


@pytest.mark.parametrize("packets_per_s", [20, 2000])
def test_jitter_in_order_is_as_planned_at_every_rate(lab: Lab, engine: str, packets_per_s: int) -> None:
    """A running maximum over independent draws would add 36 ms at the higher rate.

    Bounds: three standard errors of the process in so long a time, and what a machine that stands still adds.
    """
    paths = {0: PathPlan(100, "normal", jitter_ms=20), 2: PathPlan(100, "uniform", jitter_ms=40)}
    if EMULATED and packets_per_s > 20:
        packets_per_s = 400
    count = 12 * packets_per_s

    def look() -> dict[int, list[float]]:
        found = counts(lab, engine, paths, count, 1000 / packets_per_s)
        for received in found.values():
            assert [number for number, _ in received] == list(range(count))
        return {rank: [late_ms for _, late_ms in received] for rank, received in found.items()}

    def right(found: dict[int, list[float]]) -> bool:
        for rank, delays_ms in found.items():
            mean_ms, deviation_ms = mean_deviation(delays_ms)
            planned_ms = paths[rank].jitter_ms * deviation(paths[rank].jitter_distribution)
            if not (abs(median(delays_ms) - 100) < 7 and abs(mean_ms - 100) < 6):
                return False
            if not 0.8 < deviation_ms / planned_ms < 1.2:
                return False
        return True

    found = seen_right(look, right, looks=3)
    assert right(found), {rank: (median(d), mean_deviation(d)) for rank, d in found.items()}


def overtakers(order: list[int]) -> int:
    """Packets that arrived before one that had been sent before them."""
    least, found = order[-1], 0
    for number in reversed(order):
        found += number > least
        least = min(least, number)
    return found


def test_reordered_jitter_is_drawn_for_each_packet(lab: Lab, engine: str) -> None:
    """Of two packets far closer than the jitter, each is first as often as not; the mean is the plan's."""
    paths = {0: PathPlan(60, "uniform", jitter_ms=20, jitter_order="reorder")}
    count = 1500

    def look() -> list[tuple[int, float]]:
        [received] = counts(lab, engine, paths, count, 1).values()
        assert sorted(number for number, _ in received) == list(range(count))
        return [(int(number), late_ms) for number, late_ms in received]

    def right(found: list[tuple[int, float]]) -> bool:
        mean_ms, deviation_ms = mean_deviation([late_ms for _, late_ms in found])
        return abs(mean_ms - 60) < 3 and abs(deviation_ms / (20 * deviation("uniform")) - 1) < 0.15

    found = seen_right(look, right, looks=3)
    assert right(found), mean_deviation([late_ms for _, late_ms in found])
    swapped = sum(a > b for (a, _), (b, _) in pairwise(found))
    assert 0.35 < swapped / count < 0.65
    assert overtakers([number for number, _ in found]) > count / 2


def test_order_that_is_kept_again_loses_nothing(lab: Lab, engine: str) -> None:
    """What is in flight out of order when the plan changes arrives all the same, once."""
    reorder = PathPlan(200, "uniform", jitter_ms=150, jitter_order="reorder")
    counts(lab, engine, {0: reorder}, 10, 1)
    endpoint = lab.endpoint(1)
    output = lab.start_tool(1, "sink", endpoint, 10_000, 2)
    sender = lab.start_background(0, "send", endpoint, 1000, 1)
    while sender.poll() is None:
        for path in (PathPlan(200, "uniform", jitter_ms=150), reorder):
            plan = with_paths(node_plan(1), {0: path})
            lab.agents[1].request("apply", engine=engine, plan=plan.to_json())
    numbers = [number for number, _ in json.loads(output.readline())]
    if engine == "netem":  # a delay line of another kind takes the place of the old one, and of what is in it
        assert len(numbers) == len(set(numbers))
    else:
        assert sorted(numbers) == list(range(1000))
