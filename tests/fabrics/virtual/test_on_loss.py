"""What `on_loss` makes of a run that loses a node, on the virtual fabric."""

from __future__ import annotations

from typing import Any

import pytest

from gannet.fabrics.virtual.faults import Kill
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

WORLD, STEPS = 4, 20
METHODS: list[dict[str, Any]] = [
    {"name": "dp-oadam"},
    {"name": "local"},
    {"name": "choco"},
    {"name": "sgp"},
    {"name": "ad-psgd"},
    {"name": "cp-oadam", "collective": "server"},
    {"name": "cp-oadam", "collective": "ring"},
    {"name": "diloco", "every": 5},
    {"name": "fedgan"},
]


def games() -> list[BilinearGame]:
    return [BilinearGame(rank, noise=0.1) for rank in range(WORLD)]


@pytest.mark.parametrize("algorithm", METHODS, ids=lambda how: "-".join(map(str, how.values())))
def test_a_run_that_is_to_stop_ends_at_a_loss_with_one_error(algorithm: dict[str, Any]) -> None:
    memory, outcome = play(virtual_job(algorithm, WORLD, STEPS, on_loss="stop"), games(), [Kill(2, 0.1)])
    steps = memory.steps[2][-1].step if 2 in memory.steps else 0
    assert outcome.status == "failed"
    expected = f"node 2 was lost after its step {steps}: ended at 0.1 s; the run ends with it (on_loss: stop)"
    assert outcome.reason == expected
    assert all(each.t_s <= 0.1 for made in memory.steps.values() for each in made)
    assert [line["node"] for line in memory.link_lines if line["event"] == "node-lost"] == [2]
