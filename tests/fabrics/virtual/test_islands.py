"""Islands on the virtual clock: links are cut, each part of the graph trains on, and they come together again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gannet.fabrics.job import Job, LinkChange
from gannet.fabrics.session.cut_edges import GRACE_S, HEAL_S
from gannet.fabrics.virtual.faults import Fault, Kill
from gannet.node.methods.registry import METHODS
from gannet.node.tasks.base import Gradient
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

CAN: dict[str, dict[str, Any]] = {
    "dp-oadam": {"name": "dp-oadam"},
    "overlapped": {"name": "dp-oadam", "overlap": True},
    "seldom": {"name": "dp-oadam", "every": 4, "rounds": 2},
    "dposg": {"name": "dposg"},
    "deepsqueeze": {"name": "deepsqueeze", "eta": 1.0},
}
CUT_S, FOR_S, AFTER_S = 2.0, 12.0, 8.0
HALVES = [(1, 2), (2, 1), (0, 3), (3, 0)]  # of a ring of four: 0, 1 | 2, 3
ALONE = [(2, 3), (3, 2), (0, 3), (3, 0)]  # 0, 1, 2 | 3
Cut = tuple[float, float, Sequence[tuple[int, int]]]  # from when (s), to when, and which directed links


class Still(BilinearGame):
    """No gradient, and each rank begins elsewhere: a step is the mixing and nothing else."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._rank = rank

    def initial(self) -> Tensor:
        return torch.from_numpy(np.random.default_rng(self._rank).standard_normal(self.size)).float()

    def gradient(self, x: Tensor) -> Gradient:
        return Gradient(torch.zeros(self.size), ("generator", "discriminator"), None, {})


def cut_job(algorithm: dict[str, Any], cuts: Iterable[Cut], world: int = 4, **settings: Any) -> Job:
    """A job whose links are cut at these times."""
    settings = {"steps": None, "link": {"rate": "10Mbit", "delay_ms": 5}, "pace_ms": 40, **settings}
    job, cuts = virtual_job(algorithm, world, **settings), list(cuts)
    times_s = sorted({at_s for cut in cuts for at_s in cut[:2] if at_s < 1e6})
    changes = []
    for at_s in times_s:
        edges = {edge for begin_s, end_s, edges in cuts if begin_s <= at_s < end_s for edge in edges}
        changes.append(LinkChange(at_s, job.links.model_copy(update={"cut": frozenset(edges)})))
    return replace(job, changes=tuple(changes))


def ring_without(closed: Iterable[tuple[int, int]], world: int = 4) -> np.ndarray:
    """The ring's W, each weight 1/3, where the weight of a cut edge goes to its ends."""
    w = np.zeros((world, world))
    for i in range(world):
        for j in ((i + 1) % world, (i - 1) % world):
            w[i, i if (i, j) in closed else j] += 1 / 3
        w[i, i] += 1 / 3
    return w


def spread(memory: Memory, step: int) -> float:
    x = memory.states(step)
    return float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))


def times(memory: Memory, rank: int) -> np.ndarray:
    return np.array([stats.t_s for stats in memory.steps[rank]])


def events(memory: Memory, name: str = "islands") -> list[dict[str, Any]]:
    return [line for line in memory.link_lines if line["event"] == name]


@pytest.mark.parametrize("cut", [HALVES, ALONE], ids=["2+2", "1+3"])
def test_each_step_of_an_island_mixes_by_the_ring_without_the_cut_edges(cut: list[tuple[int, int]]) -> None:
    """W of each step, computed here, is doubly stochastic, so that each island's mean stays; after the heal it is the
    whole ring's again."""
    job = cut_job({"name": "dp-oadam"}, [(0.1, 15.0, cut)], stop_s=20.0)
    memory, outcome = play(job, [Still(rank) for rank in range(4)])
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals
    apart, together = events(memory)
    assert (apart["t_s"], together["t_s"] - 15.0 - HEAL_S) == (0.1 + GRACE_S, pytest.approx(0.05, abs=0.05))
    w, whole = ring_without(cut), ring_without([])
    np.testing.assert_allclose(w.sum(0), 1.0)
    np.testing.assert_allclose(w.sum(1), 1.0)
    first = next(stats.step for stats in memory.steps[0] if stats.t_s > apart["t_s"] + 0.1)
    complete = [step for step in sorted(memory.snapshots) if len(memory.snapshots[step]) == 4 and step > first]
    mixed = 0
    for step in complete:
        if step + 1 in complete and step != together["step"]:
            expected = (w if step < together["step"] else whole) @ memory.states(step).astype(np.float64)
            np.testing.assert_allclose(memory.states(step + 1), expected, atol=1e-6)
            mixed += step < together["step"]
    assert mixed > 150


@pytest.mark.parametrize("algorithm", CAN.values(), ids=CAN)
@pytest.mark.parametrize("cut", [HALVES, ALONE, HALVES[:1], [(2, 3)]], ids=["2+2", "1+3", "one-way", "no-split"])
def test_islands_train_on_and_their_distance_shows_the_cut(
    algorithm: dict[str, Any], cut: list[tuple[int, int]]
) -> None:
    """Steps continue; the consensus distance rises, and returns to that of a run that is never cut."""
    end_s = CUT_S + FOR_S + AFTER_S
    games = [[BilinearGame(rank, noise=0.1, spread=1.0) for rank in range(4)] for _ in range(2)]
    job = cut_job(algorithm, [(CUT_S, CUT_S + FOR_S, cut)], stop_s=end_s)
    memory, outcome = play(job, games[0])
    whole, _ = play(replace(job, changes=()), games[1])
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals
    assert not any(stats.missing for steps in memory.steps.values() for stats in steps)
    apart, together = events(memory)
    period_s = np.diff(times(whole, 0)).max()
    for rank in range(4):
        at = times(memory, rank)
        standing = np.diff(at[(at > CUT_S + GRACE_S + 0.1) & (at < end_s)])
        assert standing.max() < (2 + algorithm.get("every", 1)) * period_s + 0.02  # also at the meeting
        assert end_s <= at[-1] < end_s + 8 * period_s
    (last,) = {max(step for step, states in memory.snapshots.items() if rank in states) for rank in range(4)}
    assert len(memory.snapshots[last]) == 4  # one set of results
    final = max(whole.snapshots)
    before = np.mean([spread(whole, step) for step in range(final - 100, final, 7)])
    after = np.mean([spread(memory, step) for step in range(last - 100, last, 7)])
    assert after < 1.3 * before
    if len(apart["islands"]) > 1:
        assert spread(memory, together["step"]) > 2 * before


def test_a_cut_shorter_than_the_grace_changes_no_bit() -> None:
    job = cut_job({"name": "dp-oadam"}, [(1.0, 1.0 + 0.95 * GRACE_S, HALVES)], steps=100)
    cut, _ = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)])
    whole, _ = play(replace(job, changes=()), [BilinearGame(rank, noise=0.1) for rank in range(4)])
    assert not events(cut)
    np.testing.assert_array_equal(cut.states(100), whole.states(100))


def test_numbers_jump_to_the_larger_where_one_island_is_slower() -> None:
    """Node 3 takes 160 ms a gradient, the others 40: they are far ahead when they meet, and all end together."""
    job = cut_job({"name": "dp-oadam"}, [(1.0, 21.0, ALONE)], stop_s=25.0, node_pace_ms={3: 160.0})
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)])
    assert outcome.status == "finished" and not memory.refusals
    _, together = events(memory)
    made = [[stats.step for stats in memory.steps[rank] if stats.t_s < together["t_s"] - 0.2] for rank in range(4)]
    assert len(made[3]) < 0.5 * len(made[0]) and together["step"] >= max(made[0])
    for rank in range(4):
        after = [stats.step for stats in memory.steps[rank] if stats.step > together["step"]]
        assert after == list(range(together["step"] + 1, memory.steps[0][-1].step + 1)) and len(after) > 10
    assert not any(stats.missing for steps in memory.steps.values() for stats in steps)


def test_a_cut_that_never_heals_ends_by_the_clock_with_one_set_of_results() -> None:
    """Each island leaves after a step of its own, all under the number of the largest."""
    job = cut_job({"name": "dp-oadam"}, [(1.0, 1e9, ALONE)], stop_s=30.0, node_pace_ms={3: 160.0})
    memory, outcome = play(job, [BilinearGame(rank) for rank in range(4)])
    assert outcome.status == "finished"
    assert all(30.0 <= memory.steps[rank][-1].t_s < 30.4 for rank in range(4))
    assert memory.steps[0][-1].step > 1.5 * memory.steps[3][-1].step
    assert memory.snapshots[max(memory.snapshots)].keys() == {0, 1, 2, 3}
    assert max(memory.snapshots) == memory.steps[0][-1].step


@pytest.mark.parametrize("heals_s", [1e9, 20.0])
def test_stop_by_steps_holds_for_each_island(heals_s: float) -> None:
    job = cut_job({"name": "dp-oadam"}, [(1.0, heals_s, ALONE)], steps=300, node_pace_ms={3: 160.0})
    memory, outcome = play(job, [BilinearGame(rank) for rank in range(4)])
    assert outcome.status == "finished" and not memory.refusals
    assert all(memory.steps[rank][-1].step == 300 for rank in range(4))
    assert memory.snapshots[300].keys() == {0, 1, 2, 3}


def test_a_cut_during_a_cut_and_a_heal_of_one_of_two() -> None:
    """0, 1 | 2, 3 from 1 s; node 0 alone from 10 s; the first is healed at 20 s, the second at 30 s."""
    lonely = [(0, 1), (1, 0), (0, 3), (3, 0)]
    job = cut_job({"name": "dp-oadam"}, [(1.0, 20.0, HALVES), (10.0, 30.0, lonely)], stop_s=35.0)
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)])
    assert outcome.status == "finished" and not memory.refusals
    assert [line["islands"] for line in events(memory)] == [
        [[0, 1], [2, 3]],
        [[0], [1], [2, 3]],
        [[0], [1, 2, 3]],
        [[0, 1, 2, 3]],
    ]
    assert all(np.diff(times(memory, rank)).max() < GRACE_S + 0.1 for rank in range(4))


def test_a_node_that_dies_during_a_cut_is_left_out_by_its_island_and_comes_back_after_it() -> None:
    job = replace(cut_job({"name": "dp-oadam"}, [(1.0, 20.0, HALVES)], stop_s=30.0), return_after_s=2.0)
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)], [Kill(3, 10.0, 0.1)])
    assert outcome.status == "finished" and not outcome.lost
    missing = {peer for stats in memory.steps[2] for peer in stats.missing}
    assert missing == {3}
    (back,) = events(memory, "node-returned")
    assert back["t_s"] > 20.0 + HEAL_S
    assert all(memory.steps[rank][-1].step == memory.steps[0][-1].step for rank in range(4))
    assert events(memory)[-1]["islands"] == [[0, 1, 2]]  # it was still away


def test_a_return_that_a_cut_interrupts_begins_again_after_it() -> None:
    """Its state is in flight when the links are cut."""
    job = cut_job({"name": "dp-oadam"}, [(3.0, 20.0, HALVES)], stop_s=30.0, link={"rate": "4kbit", "delay_ms": 5})
    job = replace(job, return_after_s=1.0)
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)], [Kill(3, 1.5, 0.1)])
    assert outcome.status == "finished" and not outcome.lost
    (back,) = events(memory, "node-returned")
    assert back["t_s"] > 20.0 + HEAL_S


@pytest.mark.parametrize("heals_s", [28.5, 28.99, 29.0, 29.01, 29.5, 30.0])
def test_links_that_come_back_just_before_the_end(heals_s: float) -> None:
    job = cut_job({"name": "dp-oadam"}, [(1.0, heals_s, HALVES)], stop_s=30.0, node_pace_ms={3: 70.0})
    memory, outcome = play(job, [BilinearGame(rank) for rank in range(4)])
    assert outcome.status == "finished" and not memory.refusals
    assert all(30.0 <= memory.steps[rank][-1].t_s < 30.2 for rank in range(4))
    assert memory.snapshots[max(memory.snapshots)].keys() == {0, 1, 2, 3}


WAIT: dict[str, dict[str, Any]] = {
    "choco": {"name": "choco", "gamma": 0.5},
    "power-gossip": {"name": "power-gossip"},
    "sgp": {"name": "sgp"},
    "server": {"name": "cp-oadam", "collective": "server"},
    "ring": {"name": "cp-oadam", "collective": "ring"},
    "fedgan": {"name": "fedgan", "every": 4},
    "diloco": {"name": "diloco", "every": 4, "collective": "server"},
    "gossip-pga": {"name": "gossip-pga", "global_every": 6, "collective": "server"},
}


@pytest.mark.parametrize("algorithm", WAIT.values(), ids=WAIT)
def test_nodes_that_wait_for_cut_links_leave_when_the_time_is_over(algorithm: dict[str, Any]) -> None:
    """With the last step that each has made, under one number; what a link carried is no loss."""
    job = cut_job(algorithm, [(1.0, 60.0, [*HALVES, (0, 2), (2, 0), (1, 3), (3, 1)])], stop_s=20.0)
    memory, outcome = play(job, [BilinearGame(rank) for rank in range(4)])
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals
    assert all(memory.steps[rank][-1].t_s < 1.5 for rank in range(4))
    (line,) = events(memory, "left-early")
    assert line["t_s"] == 20.0 and line["detail"] == outcome.reason
    last = max(memory.snapshots)
    assert memory.snapshots[last].keys() == {0, 1, 2, 3}
    for rank in range(4):
        torch.testing.assert_close(memory.snapshots[last][rank], memory.snapshots[memory.steps[rank][-1].step][rank])


def test_every_shipped_method_is_in_one_of_the_two_lists() -> None:
    named = {each["name"] for each in (*CAN.values(), *WAIT.values())}
    assert {name for name, method in METHODS.items() if not method.not_in_islands} - {"local"} <= named
    assert {name for name, method in METHODS.items() if method.not_in_islands} - {"ad-psgd", "ddp", "md-gan"} <= named


all_edges = st.sampled_from([(a, b) for a in range(4) for b in range(4) if (a - b) % 4 in (1, 3)])
one_cut = st.tuples(st.floats(0.2, 25.0), st.floats(0.1, 15.0), st.sets(all_edges, min_size=1))
some_cuts = st.lists(one_cut, max_size=5)
some_kills = st.lists(st.tuples(st.integers(0, 3), st.floats(0.5, 25.0)), max_size=2)


@settings(max_examples=40, deadline=None)
@example("deepsqueeze", [(18.0, 1.0, {(0, 1)}), (19.0, 9.0, {(0, 1), (0, 3)})], [], None, False)  # cut at two times
@given(st.sampled_from(sorted(CAN)), some_cuts, some_kills, st.sampled_from([None, 1.0]), st.booleans())
def test_however_links_are_cut_the_run_ends_in_time_and_whole(
    method: str, cuts: list[Any], kills: list[Any], back_s: float | None, slow: bool
) -> None:
    job = cut_job(
        CAN[method],
        [(at_s, at_s + for_s, sorted(edges)) for at_s, for_s, edges in cuts],
        stop_s=22.0,
        node_pace_ms={3: 100.0} if slow else {},
        pace_ms=60.0,
    )
    can_return = not METHODS[CAN[method]["name"]].not_returning
    job = replace(job, return_after_s=back_s if can_return else None)
    faults: list[Fault] = [Kill(rank, at_s, 0.05) for rank, at_s in kills]
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1) for rank in range(4)], faults)
    assert outcome.status == "finished"
    killed = {rank for rank, _ in kills}
    assert all(verdict == "stale" and sender in killed for sender, _, verdict, _ in memory.refusals)
    here = set(range(4)) - outcome.lost.keys()
    assert all(memory.steps[rank][-1].t_s < 22.0 + GRACE_S + 1.0 for rank in here)
    last = max(memory.snapshots)
    assert here <= memory.snapshots[last].keys() and np.isfinite(memory.states(last)).all()
    missing = {peer for steps in memory.steps.values() for stats in steps for peer in stats.missing}
    assert missing <= killed
