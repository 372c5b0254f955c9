"""Nodes that join a run under way, on the virtual clock, held against mixing computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.fabrics.virtual.faults import Fault, Kill, Return
from gannet.fault_search.kick_task import KickTask
from tests.fabrics.virtual.test_returning import CAN, gone_and_back
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

STEPS = 60
WORLD = 4


def joined(memory: Memory) -> list[dict[str, Any]]:
    return [line for line in memory.link_lines if line["event"] == "node-joined"]


@pytest.mark.parametrize("algorithm", CAN.values(), ids=CAN)
def test_who_joins_makes_the_others_steps_to_the_end_and_nothing_is_lost(algorithm: dict[str, Any]) -> None:
    job = replace(virtual_job(algorithm, WORLD, STEPS), join_at_s={2: 0.3, 3: 0.5})
    memory, outcome = play(job, [BilinearGame(r, noise=0.1) for r in range(WORLD)])
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals
    assert not [line for line in memory.link_lines if line["event"] in ("node-lost", "node-returned")]
    assert [line["node"] for line in joined(memory)] == [2, 3]
    for line, at_s in zip(joined(memory), (0.3, 0.5), strict=True):
        assert line["t_s"] >= at_s
        assert gone_and_back(memory, line["node"]) == list(range(line["step"] + 1, STEPS + 1))
        for rank in (0, 1):
            assert all(s.step <= line["step"] for s in memory.steps[rank] if line["node"] in s.missing)
    assert all(gone_and_back(memory, rank) == list(range(1, STEPS + 1)) for rank in (0, 1))
    assert memory.states(STEPS).shape[0] == WORLD


def weights(present: list[int]) -> np.ndarray:
    """Of the complete graph of WORLD nodes, 1 / WORLD each: an absent node's weight goes to the node itself."""
    matrix = np.eye(WORLD)
    for i in present:
        matrix[i, present] = 1 / WORLD
        matrix[i, i] = 1 - (len(present) - 1) / WORLD
    return matrix


def kicked(algorithm: str, **config: Any) -> tuple[Memory, int, int]:
    """A run of KickTasks whose node 3 joins: what it leaves, the step, and the neighbour whose state it took."""
    job = virtual_job({"name": algorithm}, WORLD, 30, optimizer={"learning_rate": 0.25}, **config)
    memory, outcome = play(replace(job, join_at_s={3: 0.5}), [KickTask(r, WORLD) for r in range(WORLD)])
    assert outcome.status == "finished"
    (line,) = joined(memory)
    return memory, line["step"], line["neighbour"]


def test_every_step_is_the_mix_that_the_weights_make_by_hand() -> None:
    """x(t) = W(t) (x(t-1) + Δ(t)), Δ from nodes that do not mix; who joins has x and optimizer of its neighbour.

    Of the coordinates that nodes 0 to 2 kick; that of node 3 is 0 everywhere until it has joined.
    """
    memory, step, neighbour = kicked("dp-oadam", codec="fp32", topology="complete")
    alone = virtual_job({"name": "local"}, WORLD, 30, optimizer={"learning_rate": 0.25})
    apart, _ = play(alone, [KickTask(r, WORLD) for r in range(WORLD)])
    own = np.stack([np.zeros((WORLD, 3)), *(apart.states(at)[:, :3] for at in range(1, 31))])
    assert 3 < step < 27
    x, present = np.zeros((WORLD, 3)), [0, 1, 2]
    for at in range(1, 31):
        moved = own[at] - own[at - 1]
        if at == step + 1:
            x[3], present = x[neighbour], [0, 1, 2, 3]
        moved[3] = own[at, neighbour] - own[at - 1, neighbour]
        x[present] = (weights(present) @ (x + moved))[present]
        assert sorted(memory.snapshots[at]) == present
        for rank in present:
            found = memory.snapshots[at][rank].numpy()
            np.testing.assert_allclose(found[:3], x[rank], rtol=0, atol=2e-6, err_msg=f"step {at}, node {rank}")
            assert found[WORLD : WORLD + 2].tolist() == [1.0, 0.0]  # for ever, where weights sum to 1
            assert (found[3] == 0.0) == (at <= step)


def test_until_it_joins_a_run_is_to_the_bit_one_that_it_never_joins() -> None:
    memory, step, _ = kicked("dp-oadam", topology="ring")
    job = virtual_job({"name": "dp-oadam"}, WORLD, 30, topology="ring", optimizer={"learning_rate": 0.25})
    without, outcome = play(replace(job, join_at_s={3: 1e6}), [KickTask(r, WORLD) for r in range(WORLD)])
    assert outcome.status == "finished" and outcome.lost == {3: "it was to join at 1e+06 s"}
    for at in range(1, step + 1):
        assert memory.states(at).tobytes() == without.states(at).tobytes()
    assert memory.states(step + 2)[:3].tobytes() != without.states(step + 2).tobytes()


def test_no_set_of_checkpoints_is_kept_before_all_are_there() -> None:
    job = virtual_job({"name": "dp-oadam"}, WORLD, STEPS, checkpoint_every=1)
    memory, _ = play(replace(job, join_at_s={1: 0.4}), [BilinearGame(r) for r in range(WORLD)])
    (line,) = joined(memory)
    assert min(memory.checkpoints) > line["step"]
    assert all(len(parts) == WORLD for parts in memory.checkpoints.values())


def test_a_method_whose_nodes_keep_more_of_each_other_refuses_joins() -> None:
    job = replace(virtual_job({"name": "sgp"}, WORLD, STEPS), join_at_s={1: 0.4})
    with pytest.raises(ValueError, match="cannot come back"):
        play(job, [BilinearGame(r) for r in range(WORLD)])


churn = st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 2.5), st.booleans()), max_size=5)
joins = st.dictionaries(st.integers(1, 3), st.floats(0.01, 3.0), min_size=1)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CAN)), joins, churn)
def test_however_nodes_join_and_are_lost_the_run_ends_whole(
    method: str, join_at_s: dict[int, float], events: list[Any]
) -> None:
    faults: list[Fault] = [Return(rank, at_s) if back else Kill(rank, at_s, 0.1) for rank, at_s, back in events]
    job = replace(virtual_job(CAN[method], WORLD, STEPS), join_at_s=join_at_s)
    memory, outcome = play(job, [BilinearGame(r, noise=0.1) for r in range(WORLD)], faults)
    if outcome.status == "finished":
        here = set(range(WORLD)) - outcome.lost.keys()
        assert all(memory.steps[rank][-1].step == STEPS for rank in here)
        assert np.isfinite(memory.states(STEPS)).all()
    else:
        assert outcome.reason.startswith("every node was lost: ") or "server average" in outcome.reason
    told = [line["node"] for line in joined(memory)]
    assert len(told) == len(set(told)) and set(told) <= join_at_s.keys()
