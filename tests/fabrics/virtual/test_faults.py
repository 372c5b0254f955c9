"""Faults of single messages and single moments on the virtual fabric: what each does to a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gannet.fabrics.virtual.faults import AtAwait, DamageOne, Drop, Duplicate, Fault, Hold, Kill, Pause
from gannet.node.exchange.mailbox import Header
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

LIMITS = {"chunk_deadline_s": 0.5, "patience_s": 1.0, "round_deadline_s": 2.0}
STEPS = 20


def run(faults: list[Fault], algorithm: dict[str, Any] | None = None) -> Memory:
    job = virtual_job(algorithm or {"name": "dp-oadam"}, 4, STEPS, exchange=LIMITS)
    memory, outcome = play(job, [BilinearGame(r, noise=0.1) for r in range(4)], faults)
    assert outcome.status == "finished" and len(memory.snapshots[STEPS]) == 4 - len(outcome.lost)
    return memory


CALM = {name: run([], {"name": name}) for name in ("dp-oadam", "cp-oadam")}


def end_s(memory: Memory) -> float:
    return memory.steps[0][-1].t_s


@pytest.mark.parametrize("name", CALM)
@pytest.mark.parametrize(
    ("fault", "later_s"),
    [
        (Drop(1, 0, 0.3, again_s=0.4), 0.4),
        (Hold(1, 0, 0.3, later_s=0.4), 0.4),
        (Duplicate(1, 0, 0.3, later_s=0.0, again=True), 0.0),
        (Pause(1, 0.3, for_s=0.6), 0.5),
        (AtAwait(1, 17, Pause(1, 0.0, for_s=0.6)), 0.5),
    ],
)
def test_what_comes_late_or_twice_changes_no_bit(name: str, fault: Fault, later_s: float) -> None:
    memory = run([fault], {"name": name})
    np.testing.assert_array_equal(memory.states(STEPS), CALM[name].states(STEPS))
    assert not memory.refusals and not any(s.missing for stats in memory.steps.values() for s in stats)
    assert end_s(memory) >= end_s(CALM[name]) + later_s - 0.1
    if not later_s:
        assert end_s(memory) == end_s(CALM[name])


def test_a_message_that_is_never_sent_again_costs_one_mix_and_no_node() -> None:
    memory = run([Drop(1, 0, 0.3, again_s=None)])
    assert sum(s.missing == (1,) for s in memory.steps[0]) == 1
    assert not any(s.missing for rank in (1, 2, 3) for s in memory.steps[rank])
    assert end_s(memory) == pytest.approx(end_s(CALM["dp-oadam"]) + LIMITS["round_deadline_s"], abs=0.2)


def test_a_replayed_message_is_refused_as_stale_and_changes_no_bit() -> None:
    memory = run([Duplicate(1, 0, 0.3, later_s=0.05, again=False)])
    assert [refusal[:3] for refusal in memory.refusals] == [(1, 0, "stale")]
    np.testing.assert_array_equal(memory.states(STEPS), CALM["dp-oadam"].states(STEPS))


def test_one_damaged_message_costs_one_mix() -> None:
    def flipped(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        return header, memoryview(bytes([payload[0] ^ 1, *payload[1:]]))

    memory = run([DamageOne(1, 0, 0.3, flipped)])
    assert [refusal[:3] for refusal in memory.refusals] == [(1, 0, "corrupt")]
    assert [s.missing for s in memory.steps[0] if s.missing] == [(1,)]


def test_a_node_that_stands_still_for_too_long_is_given_up() -> None:
    job = virtual_job({"name": "dp-oadam"}, 4, STEPS, exchange=LIMITS)
    memory, outcome = play(job, [BilinearGame(r) for r in range(4)], [Pause(1, 0.3, for_s=60)])
    assert outcome.status == "finished" and outcome.lost.keys() == {1}
    assert all(stats[-1].step == STEPS for rank, stats in memory.steps.items() if rank != 1)


def test_a_node_ends_at_each_of_its_awaits() -> None:
    """A step of gossip on a ring awaits a gradient, two sends and two messages."""
    sent = []
    for number in range(11, 16):
        memory = run([AtAwait(1, number, Kill(1, 0.0, notice_s=0.1))])
        assert len(memory.steps[1]) == 2
        third = {rank: 1 in memory.steps[rank][2].missing for rank in (0, 2)}
        sent.append((third[0], third[2]))
    # Before the gradient, before the first send (to rank 2), before the second, before and between the receives.
    assert sent == [(True, True), (True, True), (True, False), (False, False), (False, False)]
