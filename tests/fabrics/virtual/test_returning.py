"""Lost nodes that come back, on the virtual clock: where they begin, what it costs the others, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.fabrics.virtual.faults import Fault, Kill, Pause, Return
from gannet.node.methods.registry import METHODS
from tests.support.games import BilinearGame, Wide
from tests.support.runs import Memory, play, virtual_job

CAN: dict[str, dict[str, Any]] = {
    "dp-oadam": {"name": "dp-oadam"},
    "overlapped": {"name": "dp-oadam", "overlap": True},
    "seldom": {"name": "dp-oadam", "every": 4, "rounds": 2},
    "dposg": {"name": "dposg"},
    "local": {"name": "local"},
    "server": {"name": "cp-oadam", "collective": "server"},
    "gossip-pga": {"name": "gossip-pga", "global_every": 6, "collective": "server"},
    "fedgan": {"name": "fedgan", "every": 4},
    "deepsqueeze": {"name": "deepsqueeze"},
}
STEPS = 120


def gone_and_back(memory: Memory, rank: int) -> list[int]:
    """The numbers of the steps that a node has reported."""
    return [stats.step for stats in memory.steps[rank]]


@pytest.mark.parametrize("algorithm", CAN.values(), ids=CAN)
def test_a_node_that_comes_back_makes_the_others_steps_to_the_end(algorithm: dict[str, Any]) -> None:
    """Whatever the method: its steps end where its neighbours' do, and nothing of it is missing once it is back."""
    job = virtual_job(algorithm, 4, STEPS)
    faults = [Kill(2, at_s=0.3, notice_s=0.2), Return(2, at_s=0.7)]
    memory, outcome = play(job, [BilinearGame(r, noise=0.1) for r in range(4)], faults)
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals
    (lost, back) = [line for line in memory.link_lines if line["event"].startswith("node-")]
    assert (lost["event"], back["event"], back["node"]) == ("node-lost", "node-returned", 2)
    steps = gone_and_back(memory, 2)
    first = back["step"] + 1
    assert first in steps and steps[-(STEPS - first + 1) :] == list(range(first, STEPS + 1))
    assert all(gone_and_back(memory, rank) == list(range(1, STEPS + 1)) for rank in (0, 1, 3))
    missing = [stats.step for rank in (0, 1, 3) for stats in memory.steps[rank] if 2 in stats.missing]
    assert all(step <= back["step"] for step in missing)
    assert not any(stats.missing for stats in memory.steps[2] if stats.step >= first)
    assert memory.states(STEPS).shape[0] == 4


def test_deepsqueeze_returns_without_an_error_memory() -> None:
    """All begin at one x, no gradient moves it, and all error memories are equal, so that nothing does until a node
    is back whose memory is zero: from there on as in algorithm 1 of the paper, with top-k, in NumPy.
    """
    game, keep, eta = BilinearGame(0, dimension=20), 4, 0.25
    codec = {"name": "top-k", "ratio": keep / game.size, "raw_below": 1}
    algorithm = {"name": "deepsqueeze", "eta": eta}
    job = virtual_job(algorithm, 4, STEPS, codec=codec, optimizer={"learning_rate": 1e-30})
    faults: list[Fault] = [Kill(2, at_s=0.5), Return(2, at_s=1.5)]
    memory, outcome = play(job, [BilinearGame(r, dimension=20) for r in range(4)], faults)
    assert outcome.status == "finished" and not outcome.lost
    (back,) = [line for line in memory.link_lines if line["event"] == "node-returned"]

    def top(v: np.ndarray) -> np.ndarray:
        kept = np.zeros_like(v)
        at = np.argsort(-np.abs(v))[:keep]
        kept[at] = v[at]
        return kept

    x = np.tile(game.initial().numpy(), (4, 1))
    error = np.zeros_like(x)
    for step in range(1, STEPS + 1):
        if step == back["step"] + 1:
            error[2] = 0
        sent = np.stack([top(each) for each in x + error])
        error = x + error - sent
        x = x + eta * ((np.roll(sent, 1, axis=0) + np.roll(sent, -1, axis=0) + sent) / 3 - sent)
        if step in (back["step"], back["step"] + 1, back["step"] + 7):
            states = memory.states(step)
            np.testing.assert_allclose(
                states, x if len(states) == 4 else np.delete(x, 2, axis=0), rtol=1e-4, atol=1e-5
            )
    assert np.abs(x[2] - x[0]).max() > 0.01


def test_it_begins_with_a_neighbours_state_as_it_crossed_the_link() -> None:
    """All begin at one x, and nothing moves it: who came back with another one would be seen after a step."""
    job = virtual_job({"name": "dp-oadam"}, 4, STEPS, optimizer={"learning_rate": 1e-30})
    faults: list[Fault] = [Kill(2, at_s=0.5), Return(2, at_s=1.5)]
    memory, _ = play(job, [BilinearGame(r) for r in range(4)], faults)
    (back,) = [line for line in memory.link_lines if line["event"] == "node-returned"]
    first = back["step"] + 1
    x = memory.states(first)
    np.testing.assert_allclose(x, np.broadcast_to(x[0], x.shape), rtol=1e-6)  # all were equal, and still are


class Large(Wide):
    """4 MB of parameters."""

    VALUES = 500_000


class Medium(Wide):
    """0.8 MB of parameters: a state of some tenths of a second."""

    VALUES = 100_000


def test_the_state_takes_the_links_time_and_the_others_train_meanwhile() -> None:
    """4 MB of x alone take 0.32 s at 100 Mbit/s; the 10 ms steps of those that only compute continue."""
    job = virtual_job({"name": "local"}, 3, 800, {"rate": "100Mbit", "delay_ms": 25})
    faults = [Kill(1, at_s=0.5), Return(1, at_s=1.0)]
    memory, outcome = play(job, [Large(r) for r in range(3)], faults)
    assert outcome.status == "finished"
    (back,) = [line for line in memory.link_lines if line["event"] == "node-returned"]
    assert back["t_s"] > 1.0 + 4e6 * 8 / 100e6
    between = np.diff([stats.t_s for stats in memory.steps[0]])
    assert between.max() < 0.03  # nobody waits while it is under way, and the meeting takes one step


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.not_returning])
def test_a_method_whose_nodes_cannot_come_back_says_why(name: str) -> None:
    why = METHODS[name].not_returning
    settings_of = {"name": name, **({"gamma": 0.5} if name == "choco" else {})}
    if name in ("ddp", "ad-psgd"):
        assert why
        return
    try:
        job = virtual_job(settings_of, 4, 20)
    except ValueError:
        pytest.fail(f"{name} is not built by its name alone")
    with pytest.raises(ValueError, match="cannot come back"):
        play(job, [BilinearGame(r) for r in range(4)], [Return(1, at_s=0.1)])


def test_averaged_gradients_would_never_make_a_late_node_equal() -> None:
    """Its parameters would be a neighbour's of some steps before, for ever."""
    job = virtual_job({"name": "cp-oadam", "average": "gradients"}, 4, 20)
    with pytest.raises(ValueError, match=r"cannot come back: with average: gradients .* use average: parameters"):
        play(job, [BilinearGame(r) for r in range(4)], [Return(1, at_s=0.1)])


def test_a_run_that_is_to_end_while_nodes_meet_ends_for_the_one_that_comes_in_too() -> None:
    """It would train for ever: the last step was agreed on without it. (Seed 847 of the first fault search.)"""
    job = virtual_job({"name": "local"}, 4, steps=None, stop_s=0.12)
    faults: list[Fault] = [Pause(2, 0.033, for_s=0.3), Kill(0, 0.079), Return(0, 0.079)]
    memory, outcome = play(job, [BilinearGame(r) for r in range(4)], faults)
    assert outcome.status == "finished" and not outcome.lost
    (back,) = [line for line in memory.link_lines if line["event"] == "node-returned"]
    assert back["t_s"] > 0.12
    assert len({memory.steps[rank][-1].step for rank in range(4)}) == 1


events = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.05, 2.5), st.booleans(), st.sampled_from([0.0, 0.1, 1.0])), max_size=8
)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CAN)), events)
def test_however_nodes_come_and_go_the_run_ends_whole(method: str, churn: list[Any]) -> None:
    """No deadlock, no refused message, and who is there at the end has made the last step."""
    faults: list[Fault] = [
        Return(rank, at_s) if back else Kill(rank, at_s, notice_s) for rank, at_s, back, notice_s in churn
    ]
    job = virtual_job(CAN[method], 4, 80)
    memory, outcome = play(job, [BilinearGame(r, noise=0.1) for r in range(4)], faults)
    if outcome.status == "finished":
        here = set(range(4)) - outcome.lost.keys()
        assert all(memory.steps[rank][-1].step == 80 for rank in here)
        assert np.isfinite(memory.states(80)).all()
    else:
        assert outcome.reason.startswith("every node was lost: ") or "server average" in outcome.reason
    killed = {fault.rank for fault in faults if isinstance(fault, Kill)}
    # What a node had sent before it died may come when it is given up already.
    assert all(verdict == "stale" and sender in killed for sender, _, verdict, _ in memory.refusals)


def test_who_gives_its_state_and_others_may_be_lost_while_it_is_in_flight() -> None:
    """A loss at any moment of a return neither asks for a second state nor leaves others at a meeting for ever."""
    for twentieth in range(8):
        struck_s = 0.7 + twentieth / 20
        faults: list[Fault] = [Kill(1, at_s=0.5), Return(1, at_s=0.7), Kill(0, at_s=struck_s), Return(0, at_s=1.5)]
        job = virtual_job({"name": "local"}, 4, 250, {"rate": "100Mbit", "delay_ms": 25})
        memory, outcome = play(job, [Medium(r) for r in range(4)], faults)
        assert outcome.status == "finished" and not outcome.lost
        assert all(memory.steps[rank][-1].step == 250 for rank in range(4))
        returns = [line["node"] for line in memory.link_lines if line["event"] == "node-returned"]
        assert returns == [1, 0]
