"""Numbers that go wrong at one node: it is given up as if it had died, or reset, or the run ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from gannet.fabrics.job import Outcome
from gannet.fabrics.not_finite import RESETS
from gannet.fabrics.virtual.faults import Fault, Kill
from gannet.node.tasks.base import Gradient
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

WORLD, STEPS, BAD = 4, 60, 2


class GoesWrong(BilinearGame):
    """The gradients with these numbers, counted from 1 over the node's whole life, have one NaN or infinity."""

    def __init__(self, rank: int, at: tuple[int, ...] | range, value: float = float("nan")) -> None:
        super().__init__(rank, noise=0.1)
        self._at, self._value, self.calls = at, value, 0

    def gradient(self, x: Tensor) -> Gradient:
        g = super().gradient(x)
        self.calls += 1
        if self.calls in self._at:
            g.field[3] = self._value
        return g


def run(
    algorithm: dict[str, Any],
    rule: str | None = None,
    at: tuple[int, ...] | range = (21,),
    bad: int = BAD,
    faults: tuple[Fault, ...] = (),
    value: float = float("nan"),
    **more: Any,
) -> tuple[Memory, Outcome]:
    job = replace(virtual_job(algorithm, WORLD, STEPS), **({"on_not_finite": rule} if rule else {}), **more)
    tasks = [GoesWrong(rank, at if rank == bad else (), value) for rank in range(WORLD)]
    return play(job, tasks, faults)


def events(memory: Memory) -> list[tuple[str, int]]:
    return [(line["event"], line["node"]) for line in memory.link_lines if line["event"].startswith("node-")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "algorithm",
    [{"name": "dp-oadam"}, {"name": "dposg"}, {"name": "cp-oadam"}, {"name": "choco"}, {"name": "sgp"}],
    ids=lambda how: how["name"],
)
def test_unless_said_otherwise_it_costs_the_others_what_its_death_would(
    algorithm: dict[str, Any], value: float
) -> None:
    """To the bit, against the same run in which the node is killed while it computes that gradient."""
    memory, outcome = run(algorithm, value=value)
    assert outcome.status == "finished" and list(outcome.lost) == [BAD] and not memory.refusals
    assert "not finite" in outcome.lost[BAD]
    (lost,) = [line for line in memory.link_lines if line["event"] == "node-lost"]
    killed, other = run(algorithm, at=(), faults=(Kill(BAD, lost["t_s"] - 1e-6),))
    assert list(other.lost) == [BAD]
    np.testing.assert_array_equal(memory.states(STEPS), killed.states(STEPS))
    assert len(memory.states(STEPS)) == WORLD - 1 and np.isfinite(memory.states(STEPS)).all()


def test_a_node_that_is_reset_continues_with_a_neighbours_state() -> None:
    memory, outcome = run({"name": "dp-oadam"}, "reset")
    assert outcome.status == "finished" and not outcome.lost
    assert events(memory) == [("node-lost", BAD), ("node-returned", BAD)]
    x = memory.states(STEPS)
    assert len(x) == WORLD and np.isfinite(x).all()
    clean, _ = run({"name": "dp-oadam"}, at=())
    apart = np.linalg.norm(x - x.mean(axis=0), axis=1)
    usual = np.linalg.norm(clean.states(STEPS) - clean.states(STEPS).mean(axis=0), axis=1)
    assert apart.max() < 3 * usual.max()


def test_a_node_that_goes_wrong_again_and_again_is_given_up_after_some_resets() -> None:
    job = replace(virtual_job({"name": "dp-oadam"}, WORLD, 1500, snapshot_every=1500), on_not_finite="reset")
    tasks = [GoesWrong(rank, range(5, 10_000) if rank == BAD else ()) for rank in range(WORLD)]
    memory, outcome = play(job, tasks)
    assert outcome.status == "finished" and list(outcome.lost) == [BAD]
    assert events(memory) == [("node-lost", BAD), ("node-returned", BAD)] * RESETS + [("node-lost", BAD)]


def test_a_run_may_end_with_it() -> None:
    _, outcome = run({"name": "dp-oadam"}, "stop")
    assert outcome.status == "failed"
    assert outcome.reason.startswith(f"node {BAD}: ") and "the gradient is not finite" in outcome.reason


@pytest.mark.parametrize(
    ("algorithm", "bad"),
    [
        ({"name": "cp-oadam", "collective": "ring"}, BAD),
        ({"name": "cp-oadam"}, 0),
        ({"name": "fedgan", "every": 4}, 0),
    ],
    ids=str,
)
def test_what_cannot_do_without_the_node_ends_and_says_why(algorithm: dict[str, Any], bad: int) -> None:
    _, outcome = run(algorithm, bad=bad)
    assert outcome.status == "failed"
    assert f"without rank {bad}" in outcome.reason and "the gradient is not finite" in outcome.reason


def test_where_all_go_wrong_the_run_ends_with_every_reason() -> None:
    job = virtual_job({"name": "dp-oadam"}, WORLD, STEPS)
    _, outcome = play(job, [GoesWrong(rank, (rank + 3,)) for rank in range(WORLD)])
    assert outcome.status == "failed" and outcome.reason.startswith("every node was lost: node 0: ")
    assert outcome.reason.count("not finite") == WORLD


def test_a_lost_node_comes_back_as_any_other_where_lost_nodes_do() -> None:
    memory, outcome = run({"name": "dp-oadam"}, return_after_s=1.0)
    assert outcome.status == "finished" and events(memory) == [("node-lost", BAD), ("node-returned", BAD)]
    assert np.isfinite(memory.states(STEPS)).all()
