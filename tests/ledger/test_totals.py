"""Totals of a node's steps against those of the steps themselves, and what a long run keeps of each."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from gannet.ledger.totals import NodeTotals
from gannet.node.training.meter import StepStats


def steps(count: int) -> list[StepStats]:
    chance, t_s, found = random.Random(1), 0.0, []
    for step in range(1, count + 1):
        t_s += chance.uniform(0.01, 0.2)
        missing = tuple(source for source in range(3) if chance.random() < 0.2)
        found.append(
            StepStats(
                step, t_s, {"discriminator": 0.1}, chance.random(), chance.random(), 0.1, step, 2 * step, 7, missing
            )
        )
    return found


def test_they_are_those_of_the_steps() -> None:
    made, totals = steps(500), NodeTotals()
    for stats in made:
        totals.add(stats)
    assert (totals.count, totals.last_step, totals.t_s) == (500, 500, made[-1].t_s)
    assert totals.sums["codec_bytes"] == 500 * 501 // 2 and totals.sums["interface_bytes"] == 3500
    assert totals.mean("wait_s") == pytest.approx(np.mean([stats.wait_s for stats in made]))
    assert list(totals.durations_s) == np.diff([0.0, *(stats.t_s for stats in made)]).tolist()
    for source in range(3):
        of = [stats for stats in made if source in stats.missing]
        link = totals.missing[source]
        assert (link.count, link.first_step, link.first_s, link.last_step) == (
            len(of), of[0].step, of[0].t_s, of[-1].step,
        )  # fmt: skip


def test_a_step_costs_a_few_bytes() -> None:
    made, totals = steps(20_000), NodeTotals()
    for stats in made[:100]:
        totals.add(stats)
    tracemalloc.start()
    try:
        for stats in made[100:]:
            totals.add(stats)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 12 * len(made)  # 8 bytes, and what an array has to spare
