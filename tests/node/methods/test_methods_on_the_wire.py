"""What the later methods send, what they do when a peer is lost, and what they refuse; push-sum by itself."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from gannet.experiment.bounds import lower_bound
from gannet.fabrics.virtual.faults import Kill
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.algorithms.sgp import PushSum
from gannet.node.codecs import build_codec
from gannet.node.codecs.split import Split
from gannet.node.config import NodeConfig
from gannet.node.tasks.base import Gradient
from gannet.node.topologies.weights import Neighbourhood, round_of
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic
from gannet.node.training.effects import PeerLost, Receive, Send
from gannet.node.training.peers import Peers
from gannet.spec.run_spec import RunSpec
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

# A directed graph, strongly connected, whose rows and columns are not balanced: node i hears from rows[i].
HEARD = [{2, 3}, {0}, {1, 0}, {2}, {0, 3}]
HEARD[0] |= {4}
ROWS = [{i: 1 / (1 + len(heard)), **{j: 1 / (1 + len(heard)) for j in heard}} for i, heard in enumerate(HEARD)]


def push_rounds(
    values: np.ndarray, rounds: int, codec: str = "fp32", lost: int = -1, since: int = 0
) -> list[PushSum]:
    """Push-sum over that graph without a fabric; rank `lost` is gone from round `since` on."""
    here, world = round_of(ROWS), len(ROWS)
    peers = [Peers(rank, world, build_codec(codec), 65536) for rank in range(world)]
    nodes = [PushSum(torch.from_numpy(row).float()) for row in values]
    for number in range(1, rounds + 1):
        alive = [rank for rank in range(world) if rank != lost or number < since]
        messages: dict[Any, memoryview] = {}
        running: dict[int, Coroutine[Any, Any, None]] = {}
        wanted: dict[int, Receive] = {}
        for rank in alive:
            running[rank] = nodes[rank].round(peers[rank], partial(_at, here, rank))
            _run(running, wanted, messages, rank)
        while running:
            for rank in list(running):
                _run(running, wanted, messages, rank, set(alive))
    return [nodes[rank] for rank in alive]


def _at(here: tuple[Neighbourhood, ...], rank: int, number: int) -> Neighbourhood:
    return here[rank]


def _run(
    running: dict[int, Coroutine[Any, Any, None]],
    wanted: dict[int, Receive],
    messages: dict[Any, memoryview],
    rank: int,
    alive: set[int] | None = None,
) -> None:
    """Drive a node's round until what it waits for is not there."""
    try:
        effect = None
        if (want := wanted.pop(rank, None)) is not None:
            if alive is not None and want.source not in alive:
                effect = running[rank].throw(PeerLost(want.source, "gone"))
            elif (want.source, rank, want.tag) in messages:
                effect = running[rank].send(messages.pop((want.source, rank, want.tag)))
            else:
                wanted[rank] = want
                return
        else:
            effect = running[rank].send(None)
        while isinstance(effect, Send):
            messages[rank, effect.to, effect.tag] = effect.payload
            effect = running[rank].send(None)
        wanted[rank] = effect
    except StopIteration:
        del running[rank]


def test_push_sum_reaches_the_average_on_a_directed_graph_and_naive_mixing_does_not() -> None:
    values = np.random.default_rng(3).standard_normal((5, 6))
    mean = values.mean(axis=0)
    nodes = push_rounds(values, 300)
    for node in nodes:
        np.testing.assert_allclose(node.z, mean, atol=1e-4)
    naive, unweighted = values, np.stack([node.x.numpy() for node in nodes])
    rows = np.zeros((5, 5))
    for i, row in enumerate(ROWS):
        rows[i, list(row)] = list(row.values())
    for _ in range(300):
        naive = rows @ naive
    assert np.ptp(naive, axis=0).max() < 1e-6 and np.abs(naive - mean).max() > 0.05  # agreed, on something else
    assert np.abs(unweighted - mean).max() > 0.05  # Σ_j p_ij x_j without dividing by the weight


@pytest.mark.parametrize("codec", ["fp32", "fp16", "bf16"])
def test_push_weights_are_kept_exactly_whatever_the_codec(codec: str) -> None:
    """Σ w is the number of nodes, and w the reference's in double, though x is rounded to 16 bits."""
    nodes = push_rounds(np.ones((5, 4)), 500, codec)
    assert abs(sum(node.weight for node in nodes) - 5) < 1e-12
    pattern = np.zeros((5, 5))
    for i, row in enumerate(ROWS):
        pattern[i, list(row)] = 1
    weights = np.linalg.matrix_power(pattern / pattern.sum(axis=0), 500) @ np.ones(5)
    np.testing.assert_allclose([node.weight for node in nodes], weights, rtol=1e-5)


def test_push_weights_outlive_a_lost_peer() -> None:
    """Without the make-up the lost node would swallow all weight; so what is left still agrees, and stays there."""
    values = np.random.default_rng(4).standard_normal((5, 6))
    nodes = push_rounds(values, 3000, lost=1, since=3)
    assert all(0.05 < node.weight < 20 for node in nodes)
    z = np.stack([node.z.numpy() for node in nodes])
    assert np.isfinite(z).all()
    assert (z.min(axis=0) >= values.min(axis=0) - 1e-3).all() and (z.max(axis=0) <= values.max(axis=0) + 1e-3).all()
    assert np.ptp(z, axis=0).max() < 1e-3


METHODS: list[tuple[dict[str, Any], str, Any]] = [
    ({"name": "gossip-pga", "global_every": 3}, "fp32", "ring"),
    ({"name": "gossip-pga", "global_every": 3, "collective": "server"}, "fp16", "ring"),
    ({"name": "gossip-pga", "global_every": 1}, "fp32", "ring"),
    ({"name": "gossip-pga", "global_every": None}, "fp32", "star"),
    ({"name": "sgp"}, "fp32", "exponential"),
    ({"name": "sgp"}, "fp16", "one-peer-exponential"),
    ({"name": "choco"}, "qsgd-4bit,raw_below=0", "ring"),
    ({"name": "choco"}, "top-k", "star"),
    ({"name": "choco", "gamma": 1}, "fp32", "torus"),
    ({"name": "deepsqueeze"}, "sign,raw_below=0", "ring"),
    ({"name": "deepsqueeze"}, "qsgd-4bit,raw_below=0", "random-ring"),
    ({"name": "diloco", "every": 3}, "fp32", "ring"),
    ({"name": "diloco", "every": 3, "collective": "server"}, "qsgd-8bit,raw_below=0", "ring"),
    ({"name": "fedgan", "every": 3}, "fp32", "ring"),
]


@pytest.mark.parametrize(("algorithm", "codec", "topology"), METHODS, ids=str)
def test_bytes_are_known_before_they_are_sent_and_a_step_takes_no_less_than_its_bound(
    algorithm: dict[str, Any], codec: str, topology: str
) -> None:
    world, steps = 6, 12
    job = virtual_job(algorithm, world, steps, codec=codec, topology=topology, snapshot_every=1000)
    games = [BilinearGame(r, 300) for r in range(world)]
    memory, outcome = play(job, games)
    assert outcome.status == "finished", outcome.reason
    raw = Split(games[0].layout, job.config.codec).raw
    traffic = exchange_traffic(job.config, world, games[0].size, raw)
    exchanges = steps // traffic.every
    for rank in range(world):
        sent = sum(stats.codec_bytes for stats in memory.steps[rank])
        assert abs(sent - exchanges * traffic.sent[rank]) <= (exchanges if topology != "ring" else 0)
    assert set(traffic.edges) == set(exchange_edges(job.config, world)) and traffic.edges
    step_s = max(of_node[-1].t_s for of_node in memory.steps.values()) / steps  # a server is done before its workers
    bound = lower_bound(traffic, job.plans, 0.010, exchanges / steps, overlap=False)
    assert bound.total_s <= step_s * 1.0001


@pytest.mark.parametrize(("algorithm", "codec", "topology"), METHODS, ids=str)
def test_the_same_bits_on_uneven_links_and_nobody_is_refused(
    algorithm: dict[str, Any], codec: str, topology: str
) -> None:
    """One edge of 800 ms among edges of 1 ms: some nodes get far ahead."""
    world = 7
    near = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 1})
    far = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 800})
    tight = {"window_rounds": 1}
    job = virtual_job(algorithm, world, 24, codec=codec, topology=topology, snapshot_every=24, exchange=tight)
    slow = exchange_edges(job.config, world)[-1]
    skewed = replace(job, links=LinkState(profile=near, edges={slow: far}))
    games = [[BilinearGame(r, noise=0.1) for r in range(world)] for _ in range(2)]
    (plain, _), (uneven, outcome) = play(job, games[0]), play(skewed, games[1])
    assert outcome.status == "finished" and not outcome.lost and not uneven.refusals
    assert not any(s.missing for stats in uneven.steps.values() for s in stats)
    np.testing.assert_array_equal(plain.states(24), uneven.states(24))


class Bowl(BilinearGame):
    """The game with a term that makes it strongly monotone, so that any step comes in."""

    def gradient(self, x: torch.Tensor) -> Gradient:
        g = super().gradient(x)
        return g._replace(field=g.field + 2 * x)


LIMITS = {"chunk_deadline_s": 1.0, "patience_s": 1.0, "round_deadline_s": 2.0}


@pytest.mark.parametrize("notice_s", [0.0, 1e9])
@pytest.mark.parametrize(
    ("algorithm", "codec", "topology"),
    [
        ({"name": "gossip-pga", "global_every": None}, "fp32", "ring"),
        ({"name": "gossip-pga", "global_every": 5, "collective": "server"}, "fp32", "ring"),
        ({"name": "sgp"}, "fp32", "exponential"),
        ({"name": "sgp"}, "fp32", "one-peer-exponential"),
        ({"name": "choco"}, "qsgd-4bit,raw_below=0", "ring"),
        ({"name": "deepsqueeze"}, "qsgd-4bit,raw_below=0", "ring"),
        ({"name": "diloco", "every": 2, "collective": "server"}, "fp32", "ring"),
    ],
    ids=str,
)
def test_these_go_on_without_a_lost_peer(
    algorithm: dict[str, Any], codec: str, topology: str, notice_s: float
) -> None:
    """The survivors finish, and still come in to the saddle point at 0."""
    steps, optimizer = 300, {"learning_rate": 0.02, "beta1": 0.5, "beta2": 0.9, "epsilon": 1.0}
    job = virtual_job(algorithm, 5, steps, codec=codec, topology=topology, exchange=LIMITS, optimizer=optimizer)
    games = [Bowl(r, 16, noise=0.02) for r in range(5)]
    memory, outcome = play(job, games, [Kill(2, at_s=0.5, notice_s=notice_s)])
    assert outcome.status == "finished", outcome.reason
    assert outcome.lost.keys() == {2}
    assert {(sender, verdict) for sender, _, verdict, _ in memory.refusals} <= {(2, "stale")}  # its last words
    assert all(len(memory.steps[rank]) == steps for rank in (0, 1, 3, 4))
    assert {peer for rank in (0, 1, 3, 4) for s in memory.steps[rank] for peer in s.missing} == {2}
    start, end = games[0].initial().numpy(), memory.states(steps)
    assert len(end) == 4 and np.linalg.norm(end, axis=1).max() < 0.5 * np.linalg.norm(start)


@pytest.mark.parametrize(
    ("algorithm", "victim"),
    [
        ({"name": "gossip-pga", "global_every": 5}, 2),
        ({"name": "gossip-pga", "global_every": 5, "collective": "server"}, 0),
        ({"name": "diloco", "every": 2}, 2),
        ({"name": "fedgan", "every": 2}, 0),
    ],
    ids=str,
)
def test_these_say_whom_they_cannot_do_without(algorithm: dict[str, Any], victim: int) -> None:
    job = virtual_job(algorithm, 5, 60)
    _, outcome = play(job, [BilinearGame(r) for r in range(5)], [Kill(victim, at_s=0.5)])
    assert outcome.status == "failed"
    assert f"without rank {victim}" in outcome.reason and "gossip" in outcome.reason


@pytest.mark.parametrize(
    ("name", "topology", "what"),
    [
        ("choco", "exponential", "directed"),
        ("choco", "one-peer-exponential", "stays the same"),
        ("choco", "random-ring", "stays the same"),
        ("choco", "base", "stays the same"),
        ("deepsqueeze", "exponential", "directed"),
    ],
)
def test_graphs_that_a_method_is_not_right_on_are_refused(name: str, topology: str, what: str) -> None:
    job = virtual_job({"name": name}, 6, 2, topology=topology)
    with pytest.raises(ValueError, match=what):
        play(job, [BilinearGame(r) for r in range(6)])
    spec = {"algorithm": {"name": name}, "nodes": 6, "stop": {"steps": 2}}
    with pytest.raises(ValueError, match=what):
        RunSpec.model_validate({**spec, "topology": topology})
    assert RunSpec.model_validate({**spec, "topology": "ring"}).algorithm.name == name


def test_which_codecs_a_method_takes() -> None:
    def config(name: str, codec: str) -> NodeConfig:
        return NodeConfig.model_validate({"run": "r", "algorithm": {"name": name}, "codec": codec})

    for codec in ("top-k", "sign", "qsgd-2bit", "random-k", "bf16"):
        assert config("choco", codec).codec == config("deepsqueeze", codec).codec == codec
    config("diloco", "fp32").algorithm.traits.check_codec("qsgd-4bit")
    for name in ("sgp", "gossip-pga", "fedgan"):
        with pytest.raises(ValueError, match="exchanges parameters"):
            config(name, "qsgd-4bit")
    with pytest.raises(ValueError, match="error memory"):
        config("diloco", "sign")
