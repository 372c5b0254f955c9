"""Nodes on a graph that changes stay together: steps do not grow once a link has faltered, whoever is lost or slow.

On the virtual clock, over links that are the least bound but for headers and one delay; see
gannet.node.exchange.turn_rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from gannet.fabrics.job import Job, LinkChange
from gannet.fabrics.session.deadlines import limits_over_time, with_turns
from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.faults import Fault, Kill
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.fabrics.virtual.turns import VirtualTurns
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from tests.support.games import Wide
from tests.support.runs import Memory, play, virtual_job

RATE_BPS, DELAY_S, STEPS = 1_000_000, 0.025, 40
LINK = LinkProfile.model_validate({"rate": "1Mbit", "delay_ms": 25})
OVERLAPPED = {"name": "dp-oadam", "overlap": True}


class Half(Wide):
    VALUES = 5_724  # of each player: 46 kB a message


class Whole(Wide):
    VALUES = 11_448


def falters(rank: int, at_s: float, up_bps: int, length_s: float = 0.2) -> list[LinkChange]:
    """A node's uplink is slower for a moment."""
    slow = LINK.model_copy(update={"up_bps": up_bps})
    links = LinkState(profile=LINK, nodes={rank: slow})
    return [LinkChange(at_s, links), LinkChange(at_s + length_s, LinkState(profile=LINK))]


def job_of(
    task: type[Wide],
    world: int,
    changes: Sequence[LinkChange],
    turns: bool,
    links: LinkState | None = None,
    **config: Any,
) -> Job:
    """A job with the limits that a run over these links has, with turns or without."""
    settings: dict[str, Any] = {"topology": "one-peer-exponential", "pace_ms": 50, "algorithm": OVERLAPPED, **config}
    job = virtual_job(settings.pop("algorithm"), world, STEPS, snapshot_every=STEPS, **settings)
    job = replace(job, links=links or LinkState(profile=LINK), changes=tuple(changes))
    states = [(0.0, job.plans), *((change.at_s, job.plans_of(change.links)) for change in changes)]
    size = 8 * task.VALUES
    limits = limits_over_time(states, size, world, 0.5)
    limits = with_turns(limits, states, size, 0.5) if turns else limits
    return replace(job, config=job.config.model_copy(update={"exchange": limits}))


def times_of(memory: Memory) -> np.ndarray:
    """When each step ended, shape (nodes, steps), with 0 before the first."""
    return np.array([[0.0, *(step.t_s for step in memory.steps[rank])] for rank in sorted(memory.steps)])


def run(task: type[Wide], job: Job, faults: Sequence[Fault] = ()) -> Memory:
    memory, outcome = play(job, [task(rank) for rank in range(job.world)], faults)
    assert outcome.status == "finished", outcome.reason
    return memory


@pytest.mark.parametrize("world", [4, 8])
@pytest.mark.parametrize("task", [Half, Whole])
@pytest.mark.parametrize("up_bps", [800_000, 500_000])
def test_one_faltering_link_does_not_make_steps_longer_for_ever(world: int, task: type[Wide], up_bps: int) -> None:
    bound_s = 8 * task.VALUES * 8 / RATE_BPS + DELAY_S
    changes = falters(0, 2.5 * bound_s, up_bps)
    ends = times_of(run(task, job_of(task, world, changes, turns=True))).max(0)
    assert ends[2] / 2 < 1.1 * bound_s  # before it
    assert (ends[-1] - ends[-11]) / 10 < 1.1 * bound_s
    assert ends[-1] / STEPS < 1.11 * bound_s  # it cost 0.04 or 0.1 s once, which 40 steps share


def test_without_turns_it_does() -> None:
    """So the model has what turns are there for: a late message shares its link, and is twice as late."""
    ends = times_of(run(Half, job_of(Half, 8, falters(0, 1.0, 500_000), turns=False))).max(0)
    assert (ends[-1] - ends[-11]) / 10 > 2 * (ends[2] / 2)


def test_on_links_that_falter_all_the_time_nodes_stay_within_a_round() -> None:
    changes = [c for k in range(24) for c in falters(7 * k % 8, 0.3 + 0.55 * k, 600_000, 0.1)]
    times = times_of(run(Half, job_of(Half, 8, changes, turns=True)))
    lags = times.max(0) - times.min(0)
    bound_s = 8 * Half.VALUES * 8 / RATE_BPS + DELAY_S
    assert lags.max() < bound_s / 2
    assert times[:, -1].max() / STEPS < 1.15 * bound_s
    drifting = times_of(run(Half, job_of(Half, 8, changes, turns=False)))
    assert (drifting.max(0) - drifting.min(0)).max() > 2 * lags.max()


def test_where_all_are_in_time_turns_cost_nothing() -> None:
    for task in (Half, Whole):
        at_once, in_turns = (times_of(run(task, job_of(task, 4, [], turns))) for turns in (False, True))
        np.testing.assert_allclose(in_turns, at_once, rtol=1e-9)


SLOW = LinkProfile.model_validate({"rate": "300kbit", "delay_ms": 25})


@pytest.mark.parametrize(
    "settings",
    [
        {"topology": {"name": "base", "degree": 2}},
        {"topology": {"name": "random-ring"}},
        {"algorithm": {"name": "dp-oadam"}},
        {"algorithm": {"name": "sgp"}},
        {"algorithm": {"name": "dposg", "rounds": 2}},
        {"algorithm": {"name": "gossip-pga", "global_every": 4}},
    ],
    ids=str,
)
@pytest.mark.parametrize("uneven", ["slow link", "slow node", "far node"])
def test_unequal_links_and_nodes_lose_nothing_by_turns(settings: dict[str, Any], uneven: str) -> None:
    far = LinkProfile.model_validate({"rate": "1Mbit", "delay_ms": 90})
    nodes = {"slow link": {1: SLOW}, "slow node": {}, "far node": {1: far}}[uneven]
    paces = {"node_pace_ms": {1: 400}} if uneven == "slow node" else {}
    ends = [
        times_of(
            run(Half, job_of(Half, 6, [], turns, LinkState(profile=LINK, nodes=nodes), **settings, **paces))
        ).max()
        for turns in (False, True)
    ]
    assert ends[1] < 1.01 * ends[0]


@pytest.mark.parametrize("notice_s", [0.0, 1e9])
def test_a_dead_peer_costs_no_more_with_turns(notice_s: float) -> None:
    ends = []
    for turns in (False, True):
        job = job_of(Half, 8, falters(5, 2.0, 500_000), turns)
        memory = run(Half, job, [Kill(3, at_s=4.0, notice_s=notice_s)])
        assert len(memory.steps[3]) < STEPS
        assert all(len(memory.steps[rank]) == STEPS for rank in range(8) if rank != 3)
        assert {peer for steps in memory.steps.values() for step in steps for peer in step.missing} == {3}
        ends.append(max(steps[-1].t_s for rank, steps in memory.steps.items() if rank != 3))
    assert ends[1] < ends[0]


def test_a_partition_that_heals_holds_nothing_up_after_it() -> None:
    cut = LinkState(profile=LINK).partition([[0, 1], [2, 3]], 4)
    changes = [LinkChange(1.0, cut), LinkChange(6.0, LinkState(profile=LINK))]
    memory = run(Half, job_of(Half, 4, changes, turns=True))
    ends = times_of(memory).max(0)
    assert not any(step.missing for steps in memory.steps.values() for step in steps)
    assert (ends[-1] - ends[-11]) / 10 < 1.1 * (8 * Half.VALUES * 8 / RATE_BPS + DELAY_S)


@pytest.mark.parametrize("killed", [False, True])
def test_a_message_that_waits_for_its_turn_dies_with_its_sender(killed: bool) -> None:
    job, time = job_of(Half, 4, (), turns=True), Timeline()
    links: LinkModel[Callable[[], None]] = LinkModel(job.plans, ())
    turns = VirtualTurns(4, [(0, 1), (1, 0)], job.config.exchange, links, time)
    turns.of[0].begin(2, sources=(), after=(1,))
    turns.send(0, 1, 2, 46_000, 48_000.0, lambda: None)
    assert links.next_s(0.0) == inf  # held
    if killed:
        turns.end(0)
    while time.next_s < inf:  # until it is given up, at the latest
        time.go_on()
    assert (links.next_s(time.now_s) == inf) is killed


def test_a_turn_is_given_up_long_before_anybody_loses_patience() -> None:
    """Also where a link is very slow for a moment only: limits know that it is a moment."""
    job = job_of(Whole, 8, falters(5, 2.0, 1_000, 1.0), turns=True)
    assert 0 < 2 * job.config.exchange.turn_s <= job.config.exchange.patience_s
