"""Asynchronous pairwise averaging, nodes that are slower than others, and the async_mailbox that its messages come
to.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.fabrics.virtual.faults import Corrupt, Fault, Kill
from gannet.node.algorithms.ad_psgd import _PARTNER_STREAM
from gannet.node.codecs import build_codec
from gannet.node.config import NodeConfig
from gannet.node.exchange.async_mailbox import LANES, AsyncMailbox
from gannet.node.exchange.mailbox import Header, Refusal, Verdict
from gannet.node.tasks.base import Gradient, random_stream
from gannet.node.topologies.sides import asking_side
from gannet.node.traffic.exchange import exchange_traffic
from gannet.node.training.effects import Arrival, PeerLost, Tag
from gannet.spec.load import SpecError, resolve
from tests.reference.ad_psgd_reference import ad_psgd
from tests.reference.oadam_reference import OptimisticAdam
from tests.support.games import BilinearGame
from tests.support.runs import Memory, play, virtual_job

OPTIMIZER = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.5}
NO_LIMIT = {"rate": None, "delay_ms": 7.3}


class Still(BilinearGame):
    """No gradient, and another start on every node: only exchanges change anything."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self._rank = rank

    def initial(self) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(self._rank).standard_normal(self.size)).float()

    def gradient(self, x: torch.Tensor) -> Gradient:
        return Gradient(torch.zeros(self.size), ("generator", "discriminator"), None, {})


def train(
    world: int, steps: int | None, tasks: list[Any] | None = None, faults: list[Fault] | None = None, **config: Any
) -> Memory:
    algorithm = {"name": "ad-psgd", "staleness": config.pop("staleness", None)}
    job = virtual_job(algorithm, world, steps, optimizer=OPTIMIZER, **config)
    memory, outcome = play(job, tasks or [Still(rank) for rank in range(world)], faults or ())
    assert outcome.status == "finished", outcome.reason
    return memory


# Whom each of five nodes asks. The sides are {1, 3, 4} and {0, 2}, on the star {1, 2, 3, 4} and {0}.
PARTNERS = {
    "star": [[], [0], [0], [0], [0]],
    "complete": [[], [0, 2], [], [0, 2], [0, 2]],
    "ring": [[], [0, 2], [], [2], [0]],
}


@pytest.mark.parametrize("topology", ["ring", "complete", "star"])
@pytest.mark.parametrize("slow_ms", [10.0, 34.0])
def test_the_trajectory_is_the_references(topology: str, slow_ms: float) -> None:
    """Every node's losses, which are those at its x before the step, as an independent simulation has them."""
    world, until = 5, 0.395  # between two steps
    games = [BilinearGame(rank, noise=0.1, spread=0.3) for rank in range(world)]
    adam = [OptimisticAdam(0.1, 0.5, 0.9, 0.5) for _ in range(world)]
    streams = [random_stream(1, _PARTNER_STREAM, rank) for rank in range(world)]

    def field(rank: int, x: np.ndarray) -> np.ndarray:
        return games[rank].gradient(torch.from_numpy(x).float()).field.numpy().astype(np.float64)

    def choose(rank: int, partners: Sequence[int]) -> int:
        return partners[int(torch.randint(len(partners), (1,), generator=streams[rank]))]

    states = ad_psgd(
        np.tile(games[0].initial().numpy().astype(np.float64), (world, 1)),
        field,
        lambda rank, g: adam[rank].step(g),
        PARTNERS[topology],
        choose,
        [0.010] * (world - 1) + [slow_ms / 1000],
        0.0073,
        until,
    )
    config = {"topology": topology, "link": NO_LIMIT, "node_pace_ms": {world - 1: slow_ms}}
    tasks = [BilinearGame(rank, noise=0.1, spread=0.3) for rank in range(world)]
    memory = train(world, 40, tasks, **config)
    matrix = games[0].matrix.numpy().astype(np.float64)
    for rank in range(world):
        ours = [stats.loss["generator"] for stats in memory.steps[rank]]
        theirs = [float(x[:4] @ matrix @ x[4:]) for x in states[rank]]
        assert len(ours) >= len(theirs) >= int(until * 1000 / slow_ms)
        both = min(len(ours) - 1, len(theirs))
        np.testing.assert_allclose(ours[1 : both + 1], theirs[:both], rtol=2e-3, atol=2e-4)


def test_a_slow_node_slows_nobody_down_and_does_where_nodes_wait() -> None:
    slow = {"pace_ms": 10, "node_pace_ms": {3: 100}}
    free = train(4, 100, **slow)
    assert [len(free.steps[rank]) for rank in range(4)] == [100, 100, 100, 10]
    assert all(stats.wait_s == 0 for rank in range(4) for stats in free.steps[rank])
    job = virtual_job({"name": "dp-oadam"}, 4, 10, **slow)
    bound, _ = play(job, [Still(rank) for rank in range(4)])
    assert bound.steps[0][-1].t_s >= 10 * 0.100


@pytest.mark.parametrize("staleness", [0, 3])
def test_nobody_is_owed_an_answer_for_longer_than_the_staleness(staleness: int) -> None:
    """The slow node answers every 100 ms: its neighbours make so many steps of 10 ms, then they wait for it."""
    memory = train(2, 100, staleness=staleness, node_pace_ms={1: 100}, link={"rate": None, "delay_ms": 0.5})
    fast, slow = memory.steps[0], memory.steps[1]
    assert len(fast) <= (staleness + 2) * (len(slow) + 1) < 100
    assert sum(stats.wait_s > 0 for stats in fast) >= len(slow) - 1


def test_the_average_is_kept_and_all_come_to_it() -> None:
    memory = train(8, 500, topology="ring", node_pace_ms={2: 27, 5: 61})
    start = np.stack([Still(rank).initial().numpy() for rank in range(8)])
    np.testing.assert_allclose(memory.states(500).mean(axis=0), start.mean(axis=0), atol=1e-5)
    assert np.abs(memory.states(500) - start.mean(axis=0)).max() < 1e-3 * np.abs(start - start.mean(axis=0)).max()


def test_what_half_precision_rounds_is_rounded_alike_at_both_ends() -> None:
    memory = train(6, 150, topology="ring", codec="fp16")
    start = np.stack([Still(rank).initial().numpy() for rank in range(6)])
    np.testing.assert_allclose(memory.states(150).mean(axis=0), start.mean(axis=0), atol=1e-5)


def test_snapshots_are_of_one_moment_whatever_the_nodes_speed() -> None:
    memory = train(3, 60, node_pace_ms={1: 17, 2: 55}, snapshot_every=20)
    assert sorted(memory.snapshots) == [0, 20, 40, 60]
    assert all(sorted(segments) == [0, 1, 2] for segments in memory.snapshots.values())


def test_it_ends_by_the_clock() -> None:
    memory = train(3, None, stop_s=0.5, node_pace_ms={2: 55})
    ends = [memory.steps[rank][-1].t_s for rank in range(3)]
    assert min(ends) >= 0.5 and max(ends) <= 0.5 + 2 * 0.055
    assert all(sorted(segments) == [0, 1, 2] for segments in memory.snapshots.values())


@pytest.mark.parametrize("staleness", [None, 2])
def test_it_goes_on_without_a_lost_node(staleness: int | None) -> None:
    faults: list[Fault] = [Kill(1, at_s=0.2, notice_s=0.3)]
    memory = train(4, 200, topology="complete", staleness=staleness, faults=faults)
    for rank in (0, 2, 3):
        assert memory.steps[rank][-1].t_s >= 2.0
        assert {peer for stats in memory.steps[rank] for peer in stats.missing} <= {1}
    last = np.stack([memory.snapshots[200][rank].numpy() for rank in (0, 2, 3)])
    assert np.ptp(last, axis=0).max() < 1e-3


def test_refused_messages_change_nothing_and_hang_nobody() -> None:
    def damage(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        return header, memoryview(bytes([payload[0] ^ 255]) + bytes(payload[1:]))

    memory = train(3, 100, topology="complete", staleness=5, faults=[Corrupt(0, 0.0, damage)])
    assert {(sender, verdict) for sender, _, verdict, _ in memory.refusals} == {(0, "corrupt")}
    start = Still(0).initial().numpy()
    assert not np.allclose(memory.snapshots[100][1].numpy(), start, atol=0.1)  # nothing of node 0 is in the others


def test_the_bytes_are_those_of_the_formula() -> None:
    """On a star everybody asks the hub at every step, and it, which is quick, answers before the next."""
    memory = train(5, 200, topology="star", link={"rate": None, "delay_ms": 0.5}, node_pace_ms={0: 1})
    config = NodeConfig.model_validate(
        {"run": "r", "pace_ms": 10, "topology": "star", "algorithm": {"name": "ad-psgd"}}
    )
    traffic = exchange_traffic(config, 5, Still(0).size)
    assert traffic.sent == tuple(4 * Still(0).size * copies for copies in (4, 1, 1, 1, 1))
    for rank in range(5):
        sent = sum(stats.codec_bytes for stats in memory.steps[rank]) / 200
        assert sent == pytest.approx(traffic.sent[rank], rel=0.1)


def spec(**fields: Any) -> Any:
    return resolve({"algorithm": {"name": "ad-psgd"}, "stop": {"steps": 10}, "pace_ms": 20, **fields}, "spec.yaml")


def test_what_does_not_fit_is_said() -> None:
    assert spec(node_pace_ms={3: 200}).arms["run"].node_pace_ms == {3: 200.0}
    for fields, message in [
        ({"pace_ms": None}, "ad-psgd has no common steps.*set pace_ms"),
        ({"topology": "one-peer-exponential"}, "a graph that stays the same, which one-peer-exponential is not"),
        ({"topology": "exponential", "nodes": 8}, "is directed: use an undirected graph"),
        ({"codec": "qsgd-4bit"}, "ad-psgd exchanges parameters"),
        ({"node_pace_ms": {4: 10}}, "node_pace_ms.4: there is no such node; nodes are 0 to 3"),
        ({"pace_ms": None, "node_pace_ms": {1: 9}, "algorithm": {"name": "local"}}, "says whose pace is another"),
        ({"algorithm": {"name": "ad-psgd", "staleness": -1}}, "at least 0"),
    ]:
        with pytest.raises(SpecError, match=message):
            spec(**fields)


@given(st.integers(2, 16), st.integers(0, 2**20))
@settings(max_examples=60)
def test_the_two_sides_leave_all_nodes_connected(world: int, bits: int) -> None:
    """Any connected graph: a path through all nodes, and the edges that `bits` adds."""
    pairs = [(a, b) for a in range(world) for b in range(a + 1, world)]
    graph = nx.Graph([pair for k, pair in enumerate(pairs) if bits >> (k % 20) & 1 or pair[1] == pair[0] + 1])
    side = asking_side(world, graph.edges)
    across = [(a, b) for a, b in graph.edges if (a in side) != (b in side)]
    assert nx.is_connected(nx.Graph(across)) and len(nx.Graph(across)) == world
    assert 2 * len(side) >= world
    assert len(across) == len(graph.edges) if nx.is_bipartite(graph) else len(across) < len(graph.edges)


# The async_mailbox.


def async_mailbox(window: int = 3) -> AsyncMailbox:
    return AsyncMailbox("run", 0, 4, 7, build_codec("fp32"), 64, window)


def message(sender: int, number: int, lane: int = 0, payload: bytes = b"\0\0\0\0") -> tuple[Header, memoryview]:
    return Header("run", sender, Tag(LANES * number + lane, 0), 7, len(payload), zlib.crc32(payload)), memoryview(
        payload
    )


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2), st.booleans()), max_size=60))
@settings(max_examples=200)
def test_a_tray_gives_each_part_once_in_its_order_and_keeps_its_window(
    messages: list[tuple[int, int, int, bool]],
) -> None:
    box, accepted, taken = async_mailbox(), [], []
    for sender, number, lane, take in messages:
        header, payload = message(sender, number, lane)
        waiting = sum(arrival.source == sender for arrival in accepted[len(taken) :])
        before = [a.tag.round for a in accepted if a.source == sender and a.tag.round % LANES == lane]
        try:
            box.put(header, payload)
            assert waiting < 3 and all(header.tag.round > earlier for earlier in before)
            accepted.append(Arrival(sender, header.tag, payload))
        except Refusal as refusal:
            late = any(header.tag.round <= earlier for earlier in before)
            assert refusal.verdict is (Verdict.STALE if late else Verdict.TOO_EARLY)
            assert late or waiting == 3
        if take:
            taken += box.take()
    assert taken + box.take() == accepted


def test_a_tray_wakes_who_waits_once() -> None:
    box, heard = async_mailbox(), []
    box.collect(heard.append)
    assert heard == []
    box.put(*message(1, 1))
    box.put(*message(2, 1))
    assert [[arrival.source for arrival in arrivals] for arrivals in heard] == [[1]]
    box.collect(heard.append)
    assert [arrival.source for arrival in heard[1]] == [2]
    box.collect(heard.append)
    box.stop_waiting()
    box.stop_waiting()
    assert heard[2:] == [[]]
    box.lose(3, "gone")
    box.lose(3, "gone")
    (lost,) = box.take()
    assert lost.source == 3 and isinstance(lost.outcome, PeerLost)


def test_a_damaged_part_may_be_sent_again() -> None:
    box = async_mailbox()
    header, _ = message(1, 1)
    with pytest.raises(Refusal, match="CORRUPT"):
        box.put(header, memoryview(b"\0\0\0\1"))
    box.put(*message(1, 1))
    assert len(box.take()) == 1
