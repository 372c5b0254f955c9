"""What a round of gossip makes nodes wait for: known figures, and against nodes that send in any order."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.node.topologies.topology import Topology
from gannet.node.topologies.waits import Waits


@pytest.mark.parametrize(
    ("choice", "world", "found"),
    [
        ("ring", 6, Waits(1, 2, 2)),
        ("complete", 5, Waits(1, 4, 4)),
        ("exponential", 8, Waits(1, 3, 3)),
        ("one-peer-exponential", 8, Waits(1, 1, 1)),
        ("random-ring", 7, Waits(1, 2, 2)),
        ("base", 8, Waits(1, 1, 1)),
        ("star", 2, Waits(1, 1, 1)),
        ("star", 9, Waits(1, 4.5, 4.5)),  # 8 copies from the hub, and one back
    ],
)
def test_known_figures(choice: str, world: int, found: Waits) -> None:
    assert Topology(choice, world).waits_per_round == found


def test_a_chain_that_is_not_long_may_begin_where_least_is_sent() -> None:
    star = Topology("star", 5)
    assert [star.waits(count).sent for count in (1, 2, 3)] == [1, 5, 6]


def rounds_s(topology: Topology, count: int, delay_s: float, down: bool, order: Random) -> float:
    """When the last node is done: each sends to its receivers one after another, a second a copy, in any order.

    Or with `down` all at once, and each receives one after another.
    """
    ready = [0.0] * topology.world
    for number in range(1, count + 1):
        arrivals: list[list[float]] = [[] for _ in ready]
        for i, begin_s in enumerate(ready):
            outgoing = list(topology(i, number).outgoing)
            order.shuffle(outgoing)
            for place, j in enumerate(outgoing, start=1):
                arrivals[j].append(begin_s + delay_s + (0 if down else place))
        for j, times in enumerate(arrivals):
            end_s = 0.0
            for at_s in sorted(times):
                end_s = max(end_s, at_s) + 1 if down else at_s
            ready[j] = max(ready[j], end_s)
    return max(ready)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["star", "ring", "base", {"name": "base", "degree": 2}, "exponential"])
    | st.builds(lambda seed: {"name": "erdos-renyi", "p": 0.4, "seed": seed}, st.integers(1, 50)),
    st.integers(3, 9),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 20.0]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_no_order_of_sending_beats_them(
    choice: Any, world: int, count: int, delay_s: float, down: bool, order: Random
) -> None:
    topology = Topology(choice, world)
    sure, took_s = topology.waits(count), rounds_s(topology, count, delay_s, down, order)
    assert took_s >= (sure.received if down else sure.sent) + sure.hops * delay_s - 1e-9
    assert topology.waits_per_round.hops <= 1
