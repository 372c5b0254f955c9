"""Algorithms against references computed another way: the papers' recursions in NumPy, in tests/reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.node.topologies.random_ring import RandomRing
from gannet.node.topologies.topology import Topology
from tests.reference.cp_oadam_reference import average_gradients, average_parameters
from tests.reference.dp_oadam_reference import dp_oadam
from tests.reference.dposg_reference import cposg, dposg
from tests.reference.oadam_reference import OptimisticAdam
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

RATE = 0.1
OPTIMIZER = {"learning_rate": RATE, "beta1": 0.5, "beta2": 0.9}


def trajectory(algorithm: dict[str, Any], world: int, steps: int, noise: float = 0.1, **config: Any) -> np.ndarray:
    """States after every step, shape (steps, world, size), by Gannet on the virtual fabric."""
    job = virtual_job(algorithm, world, steps, **{"optimizer": OPTIMIZER, **config})
    memory, outcome = play(job, [BilinearGame(rank, noise=noise, spread=0.3) for rank in range(world)])
    assert outcome.status == "finished"
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


class Reference:
    """The same games' fields in NumPy, all nodes at once: field(X) for X of shape (world, size)."""

    def __init__(self, world: int, noise: float = 0.1) -> None:
        self.games = [BilinearGame(rank, noise=noise, spread=0.3) for rank in range(world)]
        self.start = np.tile(self.games[0].initial().numpy().astype(np.float64), (world, 1))

    def field(self, states: np.ndarray) -> np.ndarray:
        n = states.shape[1] // 2
        rows = []
        for game, x in zip(self.games, states, strict=True):
            a = game.matrix.numpy().astype(np.float64)
            noise = game._noise * game._random.standard_normal(2 * n)
            rows.append(np.concatenate([a @ x[n:], -(a.T @ x[:n])]) + noise + game._shift.numpy())
        return np.stack(rows)


def theirs(method: Callable[..., np.ndarray], world: int, steps: int, **settings: Any) -> np.ndarray:
    """The same states by a reference of tests/reference that takes OAdam's steps."""
    reference = Reference(world)
    adam = OptimisticAdam(RATE, OPTIMIZER["beta1"], OPTIMIZER["beta2"], 1e-8)
    return method(reference.start, reference.field, adam.step, steps=steps, **settings)


def agree(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(("topology", "world"), [("ring", 5), ("exponential", 6), ("star", 4), ("torus", 6),
                                                  ("random-ring", 6), ("one-peer-exponential", 8)])  # fmt: skip
@pytest.mark.parametrize("rounds", [1, 3])
def test_dposg_is_the_papers_two_lines(topology: str, world: int, rounds: int) -> None:
    ours = trajectory({"name": "dposg", "rounds": rounds}, world, 12, topology=topology)
    reference = Reference(world)
    mixing = Topology(topology, world).mixing_matrix
    papers = dposg(reference.start, reference.field, RATE, mixing, rounds, 12)
    np.testing.assert_allclose(ours, papers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_dposg_on_the_complete_graph_is_cposg(rounds: int) -> None:
    """W = 11ᵀ/M: the parameter-averaged centralized algorithm, to the tolerance of float32."""
    ours = trajectory({"name": "dposg", "rounds": rounds}, 5, 20, topology="complete")
    reference = Reference(5)
    np.testing.assert_allclose(ours, cposg(reference.start, reference.field, RATE, 20), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_dposg_with_decay_is_the_papers_lines_with_a_rate_that_falls_to_zero(rounds: int) -> None:
    """η_k = η (1 − (k−1)/8): 8/8, 7/8, … 1/8 of η, then none; here as the increments of one long sum.

    X_k = W^{tk} X_0 − Σ_{j≤k} η_j W^{t(k−j)} ĝ(Z_j), and Z_k the same with ĝ(Z_{k−1}) as the last term.
    """
    world, steps, until = 5, 12, 8
    ours = trajectory(
        {"name": "dposg", "rounds": rounds}, world, steps, optimizer={**OPTIMIZER, "decay_steps": until}
    )
    reference = Reference(world)
    w = np.linalg.matrix_power(Topology("ring", world).mixing_matrix(), rounds)
    rates = RATE * np.array([8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]) / until
    gradients = [reference.field(reference.start)]

    def mixed(k: int) -> np.ndarray:
        """X_{k−1} W^t, all of the past mixed to the power that it has by then."""
        past = np.linalg.matrix_power(w, k) @ reference.start
        return past - sum(rates[j - 1] * np.linalg.matrix_power(w, k - j) @ gradients[j] for j in range(1, k))

    for k in range(1, steps + 1):
        gradients.append(reference.field(mixed(k) - rates[k - 1] * gradients[k - 1]))
        expected = mixed(k) - rates[k - 1] * gradients[k]
        np.testing.assert_allclose(ours[k - 1], expected, rtol=1e-4, atol=1e-5)
    # From there on nodes only mix: their mean stays where it was.
    means = ours[until - 1 :].mean(axis=1)
    np.testing.assert_allclose(means, np.broadcast_to(means[0], means.shape), atol=1e-5)


def test_dposg_on_one_node_is_optimistic_stochastic_gradient() -> None:
    """M = 1: Z_{k+1} = Z_k − 2η g(Z_k) + η g(Z_{k−1}), and X_k = Z_{k+1} + η g(Z_k)."""
    ours = trajectory({"name": "dposg"}, 1, 15)[:, 0]
    reference = Reference(1)
    z = reference.start
    before = reference.field(z)
    z = z - RATE * before
    for x in ours:
        g = reference.field(z)
        z, before = z - 2 * RATE * g + RATE * before, g
        np.testing.assert_allclose(x, (z + RATE * g)[0], rtol=1e-4, atol=1e-5)


def test_local_adam_is_torchs() -> None:
    ours = trajectory({"name": "local", "method": "adam"}, 1, 15)[:, 0]
    reference = Reference(1)
    x = torch.from_numpy(reference.start[0].copy()).requires_grad_()
    adam = torch.optim.Adam([x], lr=RATE, betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]))
    for state in ours:
        x.grad = torch.from_numpy(reference.field(x.detach().numpy()[None])[0])
        adam.step()
        np.testing.assert_allclose(state, x.detach().numpy(), atol=1e-5)


def test_optimistic_sg_optimizer() -> None:
    ours = trajectory({"name": "local", "method": "optimistic-sg"}, 1, 15)[:, 0]
    reference = Reference(1)
    x, before = reference.start, 0.0
    for state in ours:
        g = reference.field(x)
        x, before = x - 2 * RATE * g + RATE * before, g
        np.testing.assert_allclose(state, x[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("topology", "world"), [("ring", 5), ("complete", 4), ("exponential", 8), ("one-peer-exponential", 8)]
)
@pytest.mark.parametrize(("rounds", "every"), [(1, 1), (3, 1), (2, 3)])
@pytest.mark.parametrize("overlap", [False, True])
def test_dp_oadam(topology: str, world: int, rounds: int, every: int, overlap: bool) -> None:
    """With overlap it mixes what the gradient was taken from: x_i ← Σ_j w_ij x_j − u(g_i(x_i)), D-PSGD's order."""
    how = {"rounds": rounds, "every": every, "overlap": overlap}
    mixing = Topology(topology, world).mixing_matrix
    agree(trajectory({"name": "dp-oadam", **how}, world, 12, topology=topology),
          theirs(dp_oadam, world, 12, mixing=mixing, **how))  # fmt: skip


@pytest.mark.parametrize("seed", [1, 9])
@pytest.mark.parametrize("rounds", [1, 2])
def test_rand_dp_oadam(seed: int, rounds: int) -> None:
    """W of every round from the ring that its own permutation says, put together here and not by Topology."""

    def ring_of(number: int) -> np.ndarray:
        around, weights = RandomRing(world, seed).order(number), np.eye(world) / 3
        for a, b in pairwise([*around, around[0]]):
            weights[a, b] = weights[b, a] = 1 / 3
        return weights

    world, topology = 7, {"name": "random-ring", "seed": seed}
    assert np.ptp([ring_of(number) for number in range(1, 9)], axis=0).max() > 0.3
    agree(trajectory({"name": "dp-oadam", "rounds": rounds}, world, 12, topology=topology),
          theirs(dp_oadam, world, 12, mixing=ring_of, rounds=rounds))  # fmt: skip


@pytest.mark.parametrize("collective", ["server", "ring"])
@pytest.mark.parametrize("every", [1, 3])
def test_cp_oadam(collective: str, every: int) -> None:
    algorithm = {"name": "cp-oadam", "collective": collective, "every": every}
    agree(trajectory(algorithm, 4, 12), theirs(average_parameters, 4, 12, every=every))


@pytest.mark.parametrize("collective", ["server", "ring"])
@pytest.mark.parametrize("every", [1, 3])
def test_gossip_on_the_complete_graph_is_parameter_averaging(collective: str, every: int) -> None:
    gossip = trajectory({"name": "dp-oadam", "every": every}, 4, 12, topology="complete")
    central = trajectory({"name": "cp-oadam", "collective": collective, "every": every}, 4, 12)
    np.testing.assert_allclose(gossip, central, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("collective", ["server", "ring"])
def test_averaging_gradients(collective: str) -> None:
    ours = trajectory({"name": "cp-oadam", "collective": collective, "average": "gradients"}, 3, 12)
    agree(ours, theirs(average_gradients, 3, 12))
    assert (ours == ours[:, :1]).all()  # every node has the same bits


@settings(deadline=None, max_examples=40)
@given(
    collective=st.sampled_from(["server", "ring"]),
    world=st.integers(1, 9),
    dimension=st.integers(1, 40),
    segment=st.sampled_from([4, 8, 36, 65536]),
    codec=st.sampled_from(["fp32", "fp16"]),
)
def test_collectives_give_every_node_the_same_mean(
    collective: str, world: int, dimension: int, segment: int, codec: str
) -> None:
    """Against np.mean, for any number of nodes, length and segmentation; with fp16 all nodes agree to the bit."""
    games = [BilinearGame(rank, dimension, noise=1.0) for rank in range(world)]
    fields = []
    for game in games:
        gradient = game.gradient

        def recording(x: Any, gradient: Any = gradient) -> Any:
            g = gradient(x)
            fields.append(g.field.numpy().copy())
            return g

        game.gradient = recording  # type: ignore[method-assign]
    algorithm = {"name": "cp-oadam", "collective": collective, "average": "gradients"}
    # With β1 = β2 = 0 the first OAdam step is 2η g/(|g| + ε): the sign of the mean gradient.
    optimizer = {"learning_rate": 0.5, "beta1": 0.0, "beta2": 0.0, "epsilon": 1.0}
    exchange = {"segment_bytes": segment}
    job = virtual_job(algorithm, world, 1, codec=codec, optimizer=optimizer, exchange=exchange)
    memory, outcome = play(job, games)
    assert outcome.status == "finished", outcome.reason
    states = memory.states(1)
    mean = np.mean(fields, axis=0, dtype=np.float64)
    expected = games[0].initial().numpy() - mean / (np.abs(mean) + 1.0)
    np.testing.assert_allclose(states[0], expected, atol=2e-2 if codec == "fp16" else 1e-5)
    assert (states == states[0]).all()


def test_dposg_converges_where_descent_ascent_diverges() -> None:
    """Noisy bilinear game: plain simultaneous descent-ascent spirals out, the optimistic method comes in."""
    world, steps = 4, 600
    job = virtual_job({"name": "dposg"}, world, steps, optimizer=OPTIMIZER, snapshot_every=steps)
    memory, _ = play(job, [BilinearGame(rank, noise=0.02) for rank in range(world)])
    reference = Reference(world, noise=0.02)
    for game in reference.games:
        game._shift.zero_()
    x = reference.start
    begin = np.linalg.norm(x.mean(axis=0))
    for _ in range(steps):
        x = Topology("ring", world).mixing_matrix() @ x - RATE * reference.field(x)
    assert np.linalg.norm(x.mean(axis=0)) > 3 * begin
    assert np.linalg.norm(memory.states(steps).mean(axis=0)) < 0.1 * begin


def test_consensus_distance_falls_with_the_rounds() -> None:
    def distance(rounds: int) -> float:
        job = virtual_job({"name": "dposg", "rounds": rounds}, 8, 60, optimizer=OPTIMIZER)
        memory, _ = play(job, [BilinearGame(rank, noise=0.05, spread=0.3) for rank in range(8)])
        states = [memory.states(step) for step in range(30, 61)]
        return float(np.mean([((x - x.mean(axis=0)) ** 2).sum(axis=1).mean() for x in states]))

    distances = [distance(rounds) for rounds in (1, 2, 4, 8)]
    assert distances[0] > 1.5 * distances[1] > 1.5 * 1.5 * distances[2]
    assert distances[2] > 1.2 * distances[3]
