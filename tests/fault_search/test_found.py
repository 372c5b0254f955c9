"""What the search has found, each fault's schedule with what it takes, and siblings of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gannet.fabrics.virtual.faults import AtAwait, Corrupt, Kill, Pause
from gannet.fault_search.damage import Damaged
from gannet.fault_search.schedule import Event, Schedule
from gannet.fault_search.search import judge
from gannet.fault_search.trial import run


def schedule(method: str, world: int, *events: Event, **changes: Any) -> Schedule:
    settings = {"algorithm": {"name": method, **changes.pop("algorithm", {})}, "codec": "fp16"}
    settings |= {"exchange": {"segment_bytes": 32}, "topology": changes.pop("topology")}
    calm = Schedule(0, method, world, settings, None, 25.0, 0.0, None, None, None, False, events)
    return replace(calm, **changes)


def killed(rank: int, number: int, notice_s: float = 0.0) -> Event:
    return AtAwait(rank, number, Kill(rank, 0.0, notice_s))


@pytest.mark.parametrize("after_s", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("method", ["dposg", "dp-oadam"])
def test_parts_far_apart_meet_before_the_run_ends(method: str, number: int, after_s: float) -> None:
    """The torus of five is a ring. Node 2 trains alone, and waits for nobody, until node 1 is back. The run's time is
    over while they meet: the others would have made their last step before they came to the meeting's. (Seed 7970.)
    """
    found = schedule(
        method, 5, killed(1, 1), killed(3, number, 0.05), topology="torus", stop_s=0.72, return_after_s=after_s
    )
    assert judge(found).violations == ()
    events = [(line["event"], line["node"]) for line in run(found).record.lines if "node" in line]
    assert events.count(("node-returned", 1)) == 1


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("topology", ["one-peer-exponential", "exponential"])
@pytest.mark.parametrize(("lost", "receiver"), [((0, 1), 2), ((0, 3), 1), ((2, 3), 0)])
def test_a_node_whose_senders_are_lost_does_not_leave_its_receiver_behind(
    lost: tuple[int, int], receiver: int, topology: str, rounds: int
) -> None:
    """Edges go one way, so that it waits for nobody, and would run through to its last step while its receiver stands
    still. (Seed 4983, where that waited for others.)
    """
    events = [killed(lost[0], 26), killed(lost[1], 28), Pause(receiver, 0.8, for_s=0.6)]
    found = schedule("dposg", 4, *events, topology=topology, steps=120, algorithm={"rounds": rounds})
    assert judge(found).violations == ()


@pytest.mark.parametrize("method", ["sgp", "dposg"])
@pytest.mark.parametrize("pair", [(0, 5), (3, 4)])
def test_a_node_with_slower_waits_than_its_sender_refuses_nothing(method: str, pair: tuple[int, int]) -> None:
    """Of two nodes every message is refused, and each costs its receivers the deadline: those that wait for one of
    them are ahead of those that wait for two, farther with every round. (Seeds 7042 and 7777.)
    """
    damage = Damaged("of another schema", ("fp16",))
    corrupt = [Corrupt(rank, 0.06, damage) for rank in pair]
    found = schedule(method, 6, *corrupt, topology="erdos-renyi", steps=24, delay_ms=5.0)
    assert judge(found).violations == ()
