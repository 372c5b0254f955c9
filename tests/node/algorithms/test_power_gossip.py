"""PowerGossip against its reference, and what low-rank differences promise: the average, consensus, few bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.experiment.bounds import lower_bound
from gannet.fabrics.virtual.faults import Corrupt, Kill
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.algorithms.power_gossip import EDGE_STREAM
from gannet.node.codecs.low_rank import LowRank
from gannet.node.data.config import DataConfig
from gannet.node.exchange.mailbox import Header
from gannet.node.layout import TensorSpec
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import Gradient, random_stream
from gannet.node.tasks.config import TaskConfig
from gannet.node.topologies.topology import Topology
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic, message_bytes
from gannet.spec.run_spec import RunSpec
from tests.reference.oadam_reference import OptimisticAdam
from tests.reference.power_gossip_reference import PowerGossip, power_gossip
from tests.support.games import MatrixGame
from tests.support.loopback import over_grpc
from tests.support.runs import play, virtual_job

OPTIMIZER = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.5}
STEPS = 8
MATRICES = ((0, 4, 6), (30, 8, 3))  # MatrixGame's, as begin, rows, columns


def draw(i: int, j: int) -> Callable[[int, int], np.ndarray]:
    """The random matrices of edge i < j, from the stream that its two ends share."""
    random = random_stream(1, EDGE_STREAM, i, j)
    return lambda rows, columns: torch.randn(rows, columns, generator=random).numpy().astype(np.float64)


def ours(algorithm: dict[str, Any], world: int, steps: int = STEPS, **config: Any) -> np.ndarray:
    """States after every step, shape (steps, world, size), by Gannet on the virtual fabric."""
    job = virtual_job(algorithm, world, steps, **{"optimizer": OPTIMIZER, **config})
    memory, outcome = play(job, [MatrixGame(rank, noise=1.0, spread=0.3) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    assert not memory.refusals
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


def theirs(world: int, topology: str, rank: int, products: int) -> np.ndarray:
    games = [MatrixGame(r, noise=1.0, spread=0.3) for r in range(world)]

    def field(states: np.ndarray) -> np.ndarray:
        return np.stack(
            [g.gradient(torch.from_numpy(x).float()).field.numpy() for g, x in zip(games, states, strict=True)]
        )

    matrices = [place for place in MATRICES if rank * (place[1] + place[2]) < place[1] * place[2]]
    edges = PowerGossip(matrices, rank, draw)
    start = np.tile(games[0].initial().numpy().astype(np.float64), (world, 1))
    adam = OptimisticAdam(0.1, 0.5, 0.9, 0.5)
    return power_gossip(start, field, adam.step, Topology(topology, world).mixing_matrix, edges, products, STEPS)


@pytest.mark.parametrize(("rank", "products"), [(1, 2), (1, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize(("topology", "world"), [("ring", 5), ("star", 4), ("random-ring", 6), ("torus", 6)])
def test_the_paper(topology: str, world: int, rank: int, products: int) -> None:
    algorithm = {"name": "power-gossip", "rank": rank, "iterations": products}
    mine = ours(algorithm, world, topology=topology)
    np.testing.assert_allclose(mine, theirs(world, topology, rank, products), rtol=1e-3, atol=1e-4)


def test_alone_and_without_matrices_it_is_what_it_must_be() -> None:
    np.testing.assert_array_equal(ours({"name": "power-gossip"}, 1), ours({"name": "local"}, 1))
    for_vectors = {"name": "power-gossip", "rank": 50}
    np.testing.assert_allclose(ours(for_vectors, 5), ours({"name": "dp-oadam"}, 5), rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(ours(for_vectors, 5), ours(for_vectors, 5, codec="fp16"))  # float32, though longer


class Spread(MatrixGame):
    """The nodes start as one; the first gradient takes each to a place of its own, and no other follows."""

    def __init__(self, rank: int, dimensions: int | None = None) -> None:
        super().__init__(rank)
        random = np.random.default_rng([7, rank])
        self.kick = torch.from_numpy(random.standard_normal(self.size)).float()
        if dimensions is not None:
            for start, rows, columns in MATRICES:
                factors = random.standard_normal((rows, dimensions)), random.standard_normal((dimensions, columns))
                self.kick[start : start + rows * columns] = torch.from_numpy((factors[0] @ factors[1]).ravel())

    def gradient(self, x: torch.Tensor) -> Gradient:
        field, self.kick = self.kick, torch.zeros_like(self.kick)
        return super().gradient(x)._replace(field=field)


# ε far above every gradient makes the step linear: −2 g, of which the next gives one g back.
LINEAR = {"learning_rate": 1e6, "beta1": 0.0, "beta2": 0.0, "epsilon": 1e6}


def spread(world: int, steps: int, dimensions: int | None = None, **settings: Any) -> np.ndarray:
    """States (steps, world, size) of nodes that go twice their kick, one back at step 2, and then only gossip."""
    algorithm = {"name": "power-gossip", **settings.pop("algorithm", {})}
    job = virtual_job(algorithm, world, steps, optimizer=LINEAR, **settings)
    memory, outcome = play(job, [Spread(rank, dimensions) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_difference_of_so_low_a_rank_is_gone_in_one_step(dimensions: int) -> None:
    """Two nodes with weights of 1/2; one product less, or one direction less, is not enough."""

    def distance(**algorithm: int) -> float:
        games = [Spread(rank, dimensions) for rank in (0, 1)]
        games[0].kick.zero_()  # the difference is node 1's kick, of so many dimensions
        job = virtual_job({"name": "power-gossip", **algorithm}, 2, 1, topology="complete", optimizer=LINEAR)
        memory, _ = play(job, games)
        x = memory.states(1)
        return float(np.abs(x[0] - x[1]).max())

    assert distance(rank=dimensions) < 1e-4
    assert distance(rank=dimensions, iterations=1) > 0.1
    if dimensions > 1:
        assert distance(rank=dimensions - 1) > 0.1


@settings(max_examples=10)
@given(st.sampled_from([("ring", 5), ("star", 4), ("torus", 6), ("base", 5), ("complete", 3)]), st.integers(1, 2))
def test_the_average_stays_and_the_distance_never_grows(graph: tuple[str, int], rank: int) -> None:
    topology, world = graph
    states = spread(world, 12, topology=topology, algorithm={"rank": rank})[1:]
    games = [Spread(r) for r in range(world)]
    mean = np.mean([g.initial().numpy() - g.kick.numpy() for g in games], axis=0)
    np.testing.assert_allclose(states.mean(axis=1), np.tile(mean, (11, 1)), atol=2e-5)
    distances = [np.linalg.norm(x - x.mean(axis=0)) for x in states]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(distances))


@pytest.mark.parametrize(("topology", "world"), [("ring", 6), ("star", 4)])
def test_nodes_that_only_gossip_agree_in_the_end(topology: str, world: int) -> None:
    states = spread(world, 220, topology=topology, snapshot_every=1)
    first, last = states[1], states[-1]
    assert np.linalg.norm(last - last.mean(axis=0)) < 1e-4 * np.linalg.norm(first - first.mean(axis=0))


@pytest.mark.parametrize(("codec", "bytes_a_value"), [("fp32", 4), ("fp16", 2)])
@pytest.mark.parametrize("topology", ["ring", "random-ring", "star"])
@pytest.mark.parametrize("rank", [1, 2])
def test_bytes_and_time_are_known_before(codec: str, bytes_a_value: int, topology: str, rank: int) -> None:
    world, steps = 6, 12
    job = virtual_job({"name": "power-gossip", "rank": rank}, world, steps, codec=codec, topology=topology)
    games = [MatrixGame(r) for r in range(world)]
    memory, outcome = play(job, games)
    assert outcome.status == "finished", outcome.reason
    traffic = exchange_traffic(job.config, world, games[0].size, 0, games[0].layout)
    # (rows + columns) · rank a matrix; 3 + 3 raw values; with rank 2 the 8 × 3 one, 22 < 24, is still a matrix.
    copy = bytes_a_value * rank * ((4 + 6) + (8 + 3)) + 4 * 6
    assert message_bytes(job.config, games[0].layout) == copy
    neighbours = Topology(topology, world).sent_per_round
    assert traffic.sent == traffic.received == tuple(int(copy * count) for count in neighbours)
    for rank_ in range(world):
        assert sum(stats.codec_bytes for stats in memory.steps[rank_]) == steps * traffic.sent[rank_]
    assert traffic.edges == exchange_edges(job.config, world) and traffic.hops == 2
    if topology != "star":
        bound = lower_bound(traffic, job.plans, 0.010, 1.0, overlap=False)
        assert bound.total_s <= max(of[-1].t_s for of in memory.steps.values()) / steps * 1.0001


def test_the_shapes_of_a_gan() -> None:
    """Kernels (o, i, h, w) count as o × i·h·w; buffers, vectors and what is shorter as it is travel raw."""
    sampler = build_sampler(TaskConfig(), DataConfig())
    shapes, x = LowRank(sampler.layout, 1), torch.arange(sampler.size).float()
    kernels = [spec for spec in sampler.layout if len(spec.shape) > 1 and spec.shape[0] > 1]
    assert [m.place for m in shapes.matrices] == [spec.place for spec in kernels]
    assert shapes.from_right == sum(spec.shape[0] for spec in kernels)
    assert shapes.from_left == sum(int(np.prod(spec.shape[1:])) for spec in kernels)
    assert shapes.rest + sum(m.rows * m.columns for m in shapes.matrices) == sampler.size
    mixed = x.clone()
    shapes.add_rest(mixed, shapes.rest_of(x), 1.0)
    assert float((mixed - x).double().sum()) == float(shapes.rest_of(x).double().sum())
    # A matrix no longer than its factors, and running statistics whatever their shape, are none.
    layout = [TensorSpec("a", (3, 3), 0, "generator"), TensorSpec("b", (9, 9), 9, "buffers")]
    assert not LowRank(layout, 2).matrices and LowRank(layout, 2).rest == 90


@pytest.mark.parametrize("topology", ["ring", "random-ring"])
def test_the_same_bits_on_uneven_links(topology: str) -> None:
    world = 7
    near, far = (LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": ms}) for ms in (1, 800))
    job = virtual_job({"name": "power-gossip"}, world, 20, topology=topology, exchange={"window_rounds": 1})
    skewed = replace(job, links=LinkState(profile=near, edges={exchange_edges(job.config, world)[-1]: far}))
    games = [[MatrixGame(r, noise=0.1) for r in range(world)] for _ in range(2)]
    (plain, _), (uneven, outcome) = play(job, games[0]), play(skewed, games[1])
    assert outcome.status == "finished" and not outcome.lost and not uneven.refusals
    assert not any(s.missing for stats in uneven.steps.values() for s in stats)
    np.testing.assert_array_equal(plain.states(20), uneven.states(20))


@pytest.mark.parametrize(("codec", "topology"), [("fp32", "ring"), ("fp16", "random-ring")])
def test_the_same_bits_and_bytes_over_grpc(codec: str, topology: str) -> None:
    job = virtual_job({"name": "power-gossip"}, 5, 12, codec=codec, topology=topology)
    games = [[MatrixGame(r, noise=0.1) for r in range(5)] for _ in range(2)]
    (memory, _), (states, sent, refused) = play(job, games[0]), over_grpc(job, games[1])
    assert not refused
    np.testing.assert_array_equal(states, memory.states(12))
    assert sent == [sum(stats.codec_bytes for stats in memory.steps[rank]) for rank in range(5)]


class Bowl(MatrixGame):
    """With a term that makes the game strongly monotone, so that any step comes in."""

    def gradient(self, x: torch.Tensor) -> Gradient:
        g = super().gradient(x)
        return g._replace(field=g.field + 2 * x)


LIMITS = {"chunk_deadline_s": 1.0, "patience_s": 1.0, "round_deadline_s": 2.0}
SLOW = {"learning_rate": 0.02, "beta1": 0.5, "beta2": 0.9, "epsilon": 1.0}


@pytest.mark.parametrize("notice_s", [0.0, 1e9])
@pytest.mark.parametrize("at_s", [0.5, 0.541])
@pytest.mark.parametrize("topology", ["ring", "random-ring"])
def test_it_goes_on_without_a_lost_peer(topology: str, at_s: float, notice_s: float) -> None:
    """The survivors finish, and still come in to the saddle point at 0."""
    job = virtual_job({"name": "power-gossip"}, 5, 200, topology=topology, exchange=LIMITS, optimizer=SLOW,
                      snapshot_every=200)  # fmt: skip
    games = [Bowl(r, noise=0.02) for r in range(5)]
    memory, outcome = play(job, games, [Kill(2, at_s=at_s, notice_s=notice_s)])
    assert outcome.status == "finished", outcome.reason
    assert outcome.lost.keys() == {2}
    assert {peer for rank in (0, 1, 3, 4) for s in memory.steps[rank] for peer in s.missing} == {2}
    end = memory.states(200)
    assert len(end) == 4 and np.linalg.norm(end, axis=1).max() < 0.5 * float(games[0].initial().norm())


@pytest.mark.parametrize("part", [0, 2])
def test_an_edge_whose_message_was_spoilt_is_left_out_at_both_ends(part: int) -> None:
    """Both ends live on, and nobody waits for a deadline: time goes on as before."""
    spoilt: list[int] = []

    def damage(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        if not spoilt and header.tag.segment == part:
            spoilt.append(header.tag.round)
            return header, memoryview(bytes(len(payload) - 1) + b"\x01")
        return header, payload

    def run(*faults: Corrupt) -> Any:
        job = virtual_job({"name": "power-gossip"}, 4, 30, exchange=LIMITS, optimizer=SLOW)
        memory, outcome = play(job, [MatrixGame(r, noise=0.1) for r in range(4)], faults)
        assert outcome.status == "finished" and not outcome.lost
        return memory

    plain, hurt = run(), run(Corrupt(1, 0.5, damage))
    assert len(hurt.refusals) == 1
    (sender, receiver, verdict, _) = hurt.refusals[0]
    assert (sender, verdict) == (1, "corrupt")
    left_out = {(rank, peer) for rank in range(4) for s in hurt.steps[rank][-5:] for peer in s.missing}
    assert left_out == {(sender, receiver), (receiver, sender)}
    assert hurt.steps[0][-1].t_s < plain.steps[0][-1].t_s + 0.5
    assert np.isfinite(hurt.states(30)).all()


@pytest.mark.parametrize("topology", ["exponential", "one-peer-exponential"])
def test_a_directed_graph_is_refused(topology: str) -> None:
    spec = {"algorithm": {"name": "power-gossip"}, "nodes": 6, "stop": {"steps": 2}}
    with pytest.raises(ValueError, match="power-gossip needs symmetric weights"):
        RunSpec.model_validate({**spec, "topology": topology})
    with pytest.raises(ValueError, match="exchanges parameters"):
        RunSpec.model_validate({**spec, "codec": "qsgd-4bit"})
    assert RunSpec.model_validate({**spec, "topology": "random-ring", "codec": "bf16"}).nodes == 6
