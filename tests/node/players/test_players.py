"""Players that are exchanged each in its own way: against one algorithm over all of x, and against a recursion that
is written out for both players in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from gannet.fabrics.job import Job, Resumed
from gannet.fabrics.virtual.faults import Kill
from gannet.node.algorithms.by_player import PartWorker
from gannet.node.config import NodeConfig
from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.topologies.topology import Topology
from gannet.node.training.worker import Worker
from tests.reference.oadam_reference import OptimisticAdam
from tests.support.games import BilinearGame, MatrixGame
from tests.support.gan import small_task
from tests.support.loopback import over_grpc
from tests.support.runs import play, virtual_job

Array = NDArray[np.float64]

RATE = 0.1
OPTIMIZER = {"learning_rate": RATE, "beta1": 0.5, "beta2": 0.9}
ALIKE: dict[str, Any] = {"generator": {}, "discriminator": {}}
N = 4  # dimension of each player of the games here


def states(algorithm: dict[str, Any], world: int, steps: int = 12, **config: Any) -> np.ndarray:
    """After every step, shape (steps, world, size)."""
    job = virtual_job(algorithm, world, steps, optimizer=OPTIMIZER, **config)
    memory, outcome = play(job, [BilinearGame(r, N, noise=0.1, spread=0.3) for r in range(world)])
    assert outcome.status == "finished" and not memory.refusals, outcome.reason
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


@pytest.mark.parametrize(
    ("algorithm", "world"),
    [
        ({"name": "dp-oadam"}, 5),
        ({"name": "dp-oadam", "every": 3, "rounds": 2}, 5),
        ({"name": "dp-oadam", "overlap": True}, 5),
        ({"name": "dposg", "rounds": 2}, 5),
        ({"name": "cp-oadam", "every": 2}, 4),
        ({"name": "cp-oadam", "average": "gradients"}, 4),
        ({"name": "cp-oadam", "collective": "ring"}, 2),
        ({"name": "choco"}, 5),
        ({"name": "deepsqueeze"}, 5),
        ({"name": "sgp"}, 5),
        ({"name": "fedgan", "every": 3}, 4),
        ({"name": "diloco", "every": 3, "collective": "server"}, 4),
        ({"name": "gossip-pga", "global_every": 3, "collective": "server"}, 5),
        ({"name": "local", "method": "optimistic-sg"}, 3),
    ],
    ids=str,
)
def test_players_that_are_all_exchanged_alike_are_one_run_over_the_whole_vector(
    algorithm: dict[str, Any], world: int
) -> None:
    np.testing.assert_array_equal(states(algorithm, world), states(algorithm, world, players=ALIKE))


@pytest.mark.parametrize("algorithm", [{"name": "cp-oadam"}, {"name": "diloco", "every": 3}, {"name": "gossip-pga"}])
def test_around_a_ring_the_order_of_sums_differs(algorithm: dict[str, Any]) -> None:
    """Each player's vector is cut into shares of its own, which begin at other nodes."""
    ring = {**algorithm, "collective": "ring"}
    np.testing.assert_allclose(states(ring, 5), states(ring, 5, players=ALIKE), rtol=1e-4, atol=1e-5)


def test_running_statistics_travel_with_their_network_and_who_sits_out_stays_where_it_is() -> None:
    """BatchNorm's buffers are the generator's; with critic_steps 2 it moves at every second step."""
    found = []
    for players in ({}, ALIKE):
        job = virtual_job({"name": "dp-oadam", "every": 2}, 3, 5, players=players)
        memory, outcome = play(job, [small_task("wgan-gp", rank=r, critic_steps=2) for r in range(3)])
        assert outcome.status == "finished"
        found.append(np.stack([memory.states(step) for step in range(1, 6)]))
    np.testing.assert_array_equal(found[0], found[1])
    task = small_task("wgan-gp")
    assert (found[0][:, 0, task.buffers] != found[0][0, 0, task.buffers]).any()
    # Where the discriminator alone gossips, each node's generator and its statistics stay its own.
    local = {"algorithm": {"name": "local"}}
    job = virtual_job({"name": "dp-oadam"}, 3, 4, topology="complete", players={"generator": local})
    x = play(job, [small_task("wgan-gp", rank=r) for r in range(3)])[0].states(4)
    assert np.allclose(x[0, task.players["discriminator"]], x[1, task.players["discriminator"]], atol=1e-6)
    assert not np.allclose(x[0, task.players["generator"]], x[1, task.players["generator"]], atol=1e-6)
    assert not np.allclose(x[0, task.buffers], x[1, task.buffers], atol=1e-6)


class Both:
    """The games' field in NumPy at both players' X, each of shape (world, N)."""

    def __init__(self, world: int) -> None:
        self.games = [BilinearGame(rank, N, noise=0.1, spread=0.3) for rank in range(world)]
        start = np.tile(self.games[0].initial().numpy().astype(np.float64), (world, 1))
        self.u, self.v = start[:, :N], start[:, N:]

    def field(self, u: Array, v: Array) -> tuple[Array, Array]:
        rows = []
        for game, own_u, own_v in zip(self.games, u, v, strict=True):
            a = game.matrix.numpy().astype(np.float64)
            noise = game._noise * game._random.standard_normal(2 * N)
            rows.append(np.concatenate([a @ own_v, -(a.T @ own_u)]) + noise + game._shift.numpy())
        return np.stack(rows)[:, :N], np.stack(rows)[:, N:]


def adam() -> Callable[[Array], Array]:
    return OptimisticAdam(RATE, 0.5, 0.9, 1e-8).step


def test_each_player_follows_its_own_recursion_with_one_gradient_for_both() -> None:
    """The generator gossips in half precision over a star at every second step, the discriminator averages."""
    world, both = 5, Both(5)
    gossip = {"algorithm": {"name": "dp-oadam", "every": 2}, "topology": "star", "codec": "fp16"}
    ours = states({"name": "cp-oadam"}, world, players={"generator": gossip})
    mixing = Topology("star", world).mixing_matrix()
    own, step_u, step_v = np.diag(np.diag(mixing)), adam(), adam()
    u, v = both.u, both.v
    for k, state in enumerate(ours, start=1):
        g_u, g_v = both.field(u, v)
        u, v = u - step_u(g_u), v - step_v(g_v)
        if k % 2 == 0:
            u = own @ u + (mixing - own) @ u.astype(np.float16).astype(np.float64)
        v = np.tile(v.mean(0), (world, 1))
        np.testing.assert_allclose(state, np.concatenate([u, v], 1), rtol=2e-3, atol=2e-3)


def test_a_player_whose_method_begins_with_one_gradient_more() -> None:
    """DPOSG takes ĝ(ξ_0, Z_0) first; the other player makes its first step with it, and waits there."""
    world, both, mixing = 4, Both(4), Topology("ring", 4).mixing_matrix()
    ours = states({"name": "local"}, world, players={"generator": {"algorithm": {"name": "dposg"}}})
    step_v = adam()
    u, v = both.u, both.v
    g_u, g_v = both.field(u, v)
    for k, state in enumerate(ours):
        mixed = mixing @ u
        if k == 0:
            v = v - step_v(g_v)
        g_u, g_v = both.field(mixed - RATE * g_u, v)
        u = mixed - RATE * g_u
        if k > 0:
            v = v - step_v(g_v)
        np.testing.assert_allclose(state, np.concatenate([u, v], 1), rtol=2e-3, atol=1e-4)


MIXED: dict[str, Any] = {
    "generator": {
        "algorithm": {"name": "cp-oadam", "collective": "ring", "average": "gradients"},
        "codec": "qsgd-4bit,raw_below=10",
    },
    "discriminator": {"algorithm": {"name": "choco"}, "codec": "qsgd-8bit,raw_below=10", "topology": "complete"},
}


def test_over_tcp_the_same_bits_as_on_the_virtual_clock() -> None:
    """A ring passes quantized segments on while gossip of the other player waits, in whatever order they come."""
    games = [[MatrixGame(r, noise=0.1, spread=0.3) for r in range(4)] for _ in range(2)]
    job = virtual_job({"name": "dp-oadam"}, 4, 12, players=MIXED, optimizer=OPTIMIZER)
    memory, outcome = play(job, games[0])
    assert outcome.status == "finished"
    x, sent, refused = over_grpc(job, games[1])
    np.testing.assert_array_equal(x, memory.states(12))
    assert sent == [sum(s.codec_bytes for s in memory.steps[rank]) for rank in range(4)] and not refused


def test_players_codecs_round_with_random_numbers_of_their_own() -> None:
    """Else one player's errors would be the other's, and their sum no noise any more."""
    config = virtual_job({"name": "dp-oadam"}, 2, players=dict.fromkeys(ALIKE, MIXED["generator"])).config
    whole = Worker(config, 0, 2, BilinearGame(0, 64))
    parts = [PartWorker(whole, *part, whole.initial()) for part in whole.parts.items()]
    x = whole.initial()[:64]
    first, second = (bytes(part.peers.codec.encode(x)) for part in parts)
    assert len(first) == len(second) and first != second
    other = replace_codec(config, "qsgd-8bit")
    assert Worker(other, 0, 2, BilinearGame(0, 64)).schema != whole.schema


def replace_codec(config: NodeConfig, codec: str) -> NodeConfig:
    """The same, but for the discriminator's codec."""
    players = {**config.players, "discriminator": config.players["discriminator"].model_copy(update={"codec": codec})}
    return config.model_copy(update={"players": players})


def test_who_is_lost_costs_each_players_gossip_its_weight_as_in_a_run_over_the_whole_vector() -> None:
    """Node 2 ends while all compute their sixth gradient."""
    found = []
    for players in ({}, ALIKE):
        link = {"rate": "1Gbit", "delay_ms": 1}
        job = virtual_job({"name": "dp-oadam"}, 4, 12, link=link, pace_ms=100, players=players, topology="complete")
        memory, outcome = play(job, [BilinearGame(r, N, noise=0.1) for r in range(4)], [Kill(2, at_s=0.55)])
        assert outcome.status == "finished" and list(outcome.lost) == [2]
        assert {s.step for s in memory.steps[0] if s.missing == (2,)} == set(range(6, 13))
        found.append(memory.states(12))
    assert found[0].shape == (3, 2 * N)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("players", [MIXED, {"generator": {"algorithm": {"name": "dposg"}}}], ids=["mixed", "dposg"])
def test_a_run_that_goes_on_from_checkpoints_is_one_that_never_stopped(players: dict[str, Any]) -> None:
    """Of a game with noise, at a step of an odd number: each player's rounds, memory and random stream go on."""
    game = {"name": "game", "dimension": 12, "noise": 0.1, "spread": 0.2}

    def job(steps: int) -> Job:
        often = {"name": "dp-oadam", "every": 2}
        return virtual_job(often, 4, steps, players=players, task=game, checkpoint_every=5)

    (whole, _), (before, _) = play(job(11)), play(job(5))
    states = tuple(before.checkpoints[5][rank] for rank in range(4))
    clocks = tuple(before.steps[rank][4].t_s for rank in range(4))
    after, outcome = play(replace(job(11), resumed=Resumed(5, clocks, states)))
    assert outcome.status == "finished" and not after.refusals, outcome.reason
    for step in range(6, 12):
        np.testing.assert_array_equal(whole.states(step), after.states(step))
    sent = [[s.codec_bytes for s in memory.steps[1]] for memory in (before, after, whole)]
    assert sent[0] + sent[1] == sent[2]


@pytest.mark.parametrize("dead", [0, 2])
def test_a_lost_node_ends_the_run_where_one_players_average_needs_it(dead: int) -> None:
    players = {"generator": {"algorithm": {"name": "cp-oadam", "collective": "server"}}}
    job = virtual_job({"name": "dp-oadam"}, 4, 20, pace_ms=100, players=players)
    memory, outcome = play(job, [BilinearGame(r) for r in range(4)], [Kill(dead, at_s=0.55)])
    if dead == 0:
        assert outcome.status == "failed" and "server average" in outcome.reason and "rank 0" in outcome.reason
    else:
        assert outcome.status == "finished" and len(memory.steps[0]) == 20


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"players": {"teacher": {}}}, ["players.teacher", "no such player", "generator, discriminator"]),
        ({"players": {"generator": {"algorithm": {"name": "md-gan"}}}}, ["players.generator", "md-gan", "dp-oadam"]),
        ({"players": {"generator": {"algorithm": {"name": "ad-psgd"}}}}, ["players.generator", "no common steps"]),
        ({"players": {"discriminator": {"algorithm": {"name": "ddp"}}}}, ["players.discriminator", "ddp", "PyTorch"]),
        ({"algorithm": {"name": "ad-psgd"}, "players": ALIKE}, ["algorithm: ad-psgd", "players are given"]),
        ({"players": {"generator": {"codec": "qsgd-4bit"}}}, ["players.generator: codec qsgd-4bit", "choco"]),
        ({"players": {"generator": {"period": 3}}}, ["unknown period", "algorithm, codec, topology"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_one_error(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        NodeConfig.model_validate({"run": "test", "algorithm": {"name": "dp-oadam"}, **settings})
    assert len(caught.value.errors()) == 1
    for word in words:
        assert word in str(caught.value)


def test_a_codec_need_only_fit_the_algorithms_that_use_it() -> None:
    players = {player: {"algorithm": {"name": "choco"}} for player in ALIKE}
    NodeConfig.model_validate({"run": "t", "algorithm": {"name": "dp-oadam"}, "codec": "sign", "players": players})


def test_a_task_whose_config_does_not_know_its_players_is_checked_when_it_is_there() -> None:
    class Named(BilinearGame):
        def __init__(self) -> None:
            super().__init__(0, 2)
            self.layout = (TensorSpec("a.u", (2,), 0, "a"), TensorSpec("b.v", (2,), 2, "b"))
            self.players = {"a": slice(0, 2), "b": slice(2, 4)}

    job = virtual_job({"name": "dp-oadam"}, 2, players={"generator": {"algorithm": {"name": "local"}}})
    with pytest.raises(ValueError, match=r"players\.generator: this task has no such player; it has a, b"):
        Worker(job.config, 0, 2, Named())


def test_a_buffer_of_nobody_is_refused() -> None:
    class Apart(BilinearGame):
        def __init__(self) -> None:
            super().__init__(0, 2)
            self.layout = (*self.layout, TensorSpec("mean", (1,), 4, BUFFERS))
            self.size, self.buffers = 5, slice(4, 5)

    job = virtual_job({"name": "dp-oadam"}, 2, players=ALIKE)
    with pytest.raises(ValueError, match=r"'mean' belongs to no player.*generator\., discriminator\."):
        play(replace(job, world=2), [Apart() for _ in range(2)])
