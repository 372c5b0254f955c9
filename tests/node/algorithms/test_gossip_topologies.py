"""Training over every topology: trajectories against NumPy, no deadlock, traffic, and real gRPC."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from gannet.experiment.bounds import lower_bound
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.algorithms.collectives import gossip
from gannet.node.codecs import build_codec
from gannet.node.config import NodeConfig
from gannet.node.process.wall_clock import WallClock
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic
from gannet.node.training.meter import Meter
from gannet.node.training.peers import Peers
from tests.node.algorithms.test_algorithms import RATE, Reference, trajectory
from tests.support.exchanges import Pair
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

CHANGING: list[Any] = ["one-peer-exponential", "base", {"name": "base", "degree": 2}, "random-ring"]
STATIC: list[Any] = ["ring", "torus", "complete", "star", "exponential", "erdos-renyi"]


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("choice", [*CHANGING, *STATIC], ids=str)
def test_every_round_has_its_own_matrix(choice: Any, rounds: int) -> None:
    """DPOSG in matrix form: X_k = W_{tk} ⋯ W_{t(k−1)+1} X_{k−1} − η ĝ(Z_k), whatever t."""
    world, steps = 6, 9
    topology, reference = Topology(choice, world), Reference(world)
    x = z = reference.start
    g, number = reference.field(z), 0
    for ours in trajectory({"name": "dposg", "rounds": rounds}, world, steps, topology=choice):
        for _ in range(rounds):
            number += 1
            x = topology.mixing_matrix(number) @ x
        z = x - RATE * g
        g = reference.field(z)
        x = x - RATE * g
        np.testing.assert_allclose(ours, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_graph_that_changes_goes_on_from_exchange_to_exchange(every: int) -> None:
    """Four nodes that gossip at every second step must not meet the same peer each time: 2 divides the period."""
    algorithm = {"name": "dp-oadam", "every": every}
    job = virtual_job(algorithm, 4, 2 * every, topology="one-peer-exponential", optimizer={"learning_rate": 1e-12})

    class Apart(BilinearGame):
        """Starts away from the others: what is left of that is what mixing has not yet done."""

        def initial(self) -> torch.Tensor:
            return torch.full((self.size,), float(self.rank))

    games = [Apart(rank) for rank in range(4)]
    for rank, game in enumerate(games):
        game.rank = rank
    memory, outcome = play(job, games)
    assert outcome.status == "finished"
    np.testing.assert_allclose(memory.states(2 * every), 1.5, atol=1e-6)
    assert np.ptp(memory.states(2 * every - 1)) > 0.5


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("world", [3, 7, 12])
@pytest.mark.parametrize("choice", CHANGING, ids=str)
def test_nobody_is_lost_late_or_refused_on_uneven_links(choice: Any, world: int, overlap: bool) -> None:
    """One edge of 800 ms among edges of 1 ms: some nodes get far ahead, and the bits stay the same."""
    near = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 1})
    far = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 800})
    tight = {"window_rounds": 1}  # so that a node too far ahead is refused
    algorithm = {"name": "dp-oadam", "overlap": overlap}
    job = virtual_job(algorithm, world, 40, topology=choice, snapshot_every=40, exchange=tight)
    slow = exchange_edges(job.config, world)[-1]
    skewed = replace(job, links=LinkState(profile=near, edges={slow: far}))
    games = [[BilinearGame(r, noise=0.1) for r in range(world)] for _ in range(2)]
    (plain, _), (uneven, outcome) = play(job, games[0]), play(skewed, games[1])
    assert outcome.status == "finished" and not outcome.lost and not uneven.refusals
    assert not any(s.missing for stats in uneven.steps.values() for s in stats)
    np.testing.assert_array_equal(plain.states(40), uneven.states(40))


@pytest.mark.parametrize("choice", [*CHANGING, *STATIC], ids=str)
def test_bytes_are_known_before_they_are_sent(choice: Any) -> None:
    """The formula against what the nodes have sent, over whole periods."""
    world = 7
    topology = Topology(choice, world)
    rounds = 6 * (topology.period or 1)
    job = virtual_job({"name": "dp-oadam"}, world, rounds, topology=choice, snapshot_every=1000)
    memory, _ = play(job, [BilinearGame(r) for r in range(world)])
    size = memory.snapshots[0][0].numel()
    traffic = exchange_traffic(job.config, world, size)
    for rank in range(world):
        sent = sum(stats.codec_bytes for stats in memory.steps[rank])
        assert abs(sent - rounds * traffic.sent[rank]) <= rounds  # the mean is in whole bytes
    assert sum(topology.received_per_round) == pytest.approx(sum(topology.sent_per_round))
    assert traffic.changing == (topology.period != 1)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("choice", [*CHANGING, "ring", "exponential"], ids=str)
def test_a_step_takes_no_less_than_its_bound(choice: Any, uneven: bool) -> None:
    """On links that are alike a delay-bound step takes little more; on others only the least is sure."""
    world, near = 8, LinkProfile.model_validate({"rate": "10Mbit", "delay_ms": 40})
    far = LinkProfile.model_validate({"rate": "10Mbit", "delay_ms": 400})
    job = virtual_job({"name": "dp-oadam"}, world, 60, topology=choice, snapshot_every=1000)
    edges = dict.fromkeys(exchange_edges(job.config, world)[:5], far) if uneven else {}
    job = replace(job, links=LinkState(profile=near, edges=edges))
    memory, _ = play(job, [BilinearGame(r) for r in range(world)])
    step_s = memory.steps[0][-1].t_s / 60
    traffic = exchange_traffic(job.config, world, memory.snapshots[0][0].numel())
    bound_s = lower_bound(traffic, job.plans, compute_s=0.010, exchanges_per_step=1, overlap=False).total_s
    assert bound_s <= step_s * 1.0001
    assert uneven or step_s <= 1.10 * bound_s


def test_who_must_be_connected_is_everybody_that_a_random_ring_may_join() -> None:
    config = NodeConfig.model_validate({"run": "r", "algorithm": {"name": "dposg"}, "topology": "random-ring"})
    assert len(exchange_edges(config, 6)) == 30


@pytest.mark.parametrize("choice", ["random-ring", "base", "one-peer-exponential", "star"], ids=str)
def test_rounds_over_real_grpc(choice: Any) -> None:
    """Five nodes as threads over loopback sockets, 25 rounds without a pause: the products of the matrices."""
    world, count, rounds = 5, 300, 25
    topology = Topology(choice, world)
    pair = Pair(world, count, window_rounds=4 + topology.rounds_ahead(), round_deadline_s=300.0, liveness_s=600.0)
    start = np.random.default_rng(5).standard_normal((world, count)).astype(np.float32)
    found: dict[int, np.ndarray] = {}

    def node(rank: int) -> None:
        peers = Peers(rank, world, build_codec("fp32"), 65536)
        clock = WallClock(pair.nodes[rank], Meter(lambda: 0.0), pace_s=0.0)
        x = torch.from_numpy(start[rank])
        found[rank] = clock.run(gossip(peers, x, partial(topology, rank), rounds)).numpy()
        assert not peers.missing

    try:
        threads = [threading.Thread(target=node, args=(rank,), daemon=True) for rank in range(world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
        expected = start.astype(np.float64)
        for number in range(1, rounds + 1):
            expected = topology.mixing_matrix(number) @ expected
        assert sorted(found) == list(range(world)) and not pair.refusals
        np.testing.assert_allclose(np.stack([found[rank] for rank in range(world)]), expected, atol=1e-5)
    finally:
        pair.close()
