"""Traffic of players that are exchanged each in its own way: every message counted on the virtual fabric."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import lcm
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.experiment.bounds import joint_bound
from gannet.fabrics.virtual.faults import Corrupt
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.exchange.mailbox import Header
from gannet.node.layout import TensorSpec
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic, largest_payload, message_bytes
from gannet.node.traffic.players import bytes_per_step, steps_between, together, traffic_by_player
from gannet.node.training.worker import Worker
from tests.support.games import MatrixGame, Wide
from tests.support.runs import play, virtual_job

STEPS = 12
EXACT, GRADIENTS = ["fp32", "fp16"], ["fp32", "qsgd-4bit,raw_below=10"]
COARSE = ["fp32", "sign", "qsgd-4bit,raw_below=10"]
EVERY = st.sampled_from([1, 2, 3])


def player(algorithm: st.SearchStrategy[dict[str, Any]], codecs: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    topologies = st.sampled_from(["ring", "star", "complete", "exponential"])
    return st.fixed_dictionaries(
        {"algorithm": algorithm, "codec": st.sampled_from(codecs)}, optional={"topology": topologies}
    )


def method(name: str, **choices: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"name": st.just(name), **choices})


WAYS, FLAG = st.sampled_from(["server", "ring"]), st.booleans()
PLAYERS = st.one_of(
    player(method("local"), EXACT),
    player(method("dp-oadam", every=EVERY, rounds=st.integers(1, 2), overlap=FLAG), EXACT),
    player(method("dposg", rounds=st.integers(1, 2)), EXACT),
    player(method("cp-oadam", every=EVERY, collective=WAYS), EXACT),
    player(method("cp-oadam", collective=WAYS, average=st.just("gradients")), GRADIENTS),
    player(method("gossip-pga", global_every=EVERY, collective=WAYS), EXACT),
    player(method("diloco", every=EVERY, collective=WAYS), GRADIENTS),
    player(method("sgp"), EXACT),
    player(method("power-gossip"), EXACT),
    player(method("choco"), COARSE).filter(lambda p: p.get("topology") != "exponential"),
    player(method("deepsqueeze"), COARSE).filter(lambda p: p.get("topology") != "exponential"),
).filter(lambda p: (p["algorithm"]["name"], p.get("topology")) != ("power-gossip", "exponential"))


def count(job: Any, tasks: Any) -> tuple[Any, Counter[tuple[str, int]], int]:
    """(what a run told, bytes by (player, rank), the longest payload), seen as every message leaves."""
    names, sent, longest = list(tasks[0].players), Counter[tuple[str, int]](), [0]

    def look(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        sent[names[header.tag.player], header.sender] += len(payload)
        longest.append(len(payload))
        return header, payload

    watch = [Corrupt(rank, -1.0, look) for rank in range(job.world)]  # from before the first message on
    memory, outcome = play(job, tasks, watch)
    assert outcome.status == "finished" and not outcome.lost and not memory.refusals, outcome.reason
    return memory, sent, max(longest)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), PLAYERS, PLAYERS, st.integers(0, 20))
def test_any_players_finish_and_send_what_was_foretold(
    world: int, generator: dict[str, Any], discriminator: dict[str, Any], slow: int
) -> None:
    """Also on links one of which is slow, with the same bits: some nodes, and some players, get far ahead."""
    players = {"generator": generator, "discriminator": discriminator}
    exchange = {"segment_bytes": 64, "window_rounds": 1}
    job = virtual_job({"name": "local"}, world, STEPS, players=players, exchange=exchange)
    games = [[MatrixGame(r, noise=0.1) for r in range(world)] for _ in range(2)]
    memory, sent, longest = count(job, games[0])
    layout = games[0][0].layout
    traffics = traffic_by_player(job.config, world, layout)
    for name, traffic in traffics.items():
        for rank in range(world):
            assert sent[name, rank] == STEPS // traffic.every * traffic.sent[rank]
    for rank in range(world):
        assert sum(s.codec_bytes for s in memory.steps[rank]) == sum(sent[name, rank] for name in players)
    edges = exchange_edges(job.config, world)
    assert set(edges) == {edge for traffic in traffics.values() for edge in traffic.edges}
    assert longest <= largest_payload(job.config, games[0][0].size, layout)
    overlaps = [bool(p["algorithm"].get("overlap")) for p in players.values()]
    bound = joint_bound(list(zip(traffics.values(), overlaps, strict=True)), job.plans, 0.010, STEPS)
    step_s = max(of_node[-1].t_s for of_node in memory.steps.values()) / STEPS
    # What is sent at the last step, by nodes that do not wait for it, may still be on its way.
    assert bound.total_s <= step_s * (STEPS + max(t.every for t in traffics.values())) / STEPS
    if edges:
        near = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 1})
        far = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 800})
        skewed = replace(job, links=LinkState(profile=near, edges={edges[slow % len(edges)]: far}))
        uneven, outcome = play(skewed, games[1])
        assert outcome.status == "finished" and not uneven.refusals, outcome.reason
        np.testing.assert_array_equal(memory.states(STEPS), uneven.states(STEPS))


class Broad(Wide):
    """Wide, with what lies where in x."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        n = self.VALUES
        names = [("generator", 0), ("discriminator", n)]
        self.layout = tuple(TensorSpec(f"{player}.w", (n,), start, player) for player, start in names)


@pytest.mark.parametrize(("algorithm", "world"), [("dp-oadam", 4), ("dp-oadam", 2), ("choco", 4)])
@pytest.mark.parametrize("every", [1, 3])
def test_a_step_takes_its_bound_and_headers(algorithm: str, world: int, every: int) -> None:
    """Two players of 4 kB at 1 Mbit/s, the discriminator's exchanged at every step, or at every third only."""
    seldom = {"name": "dp-oadam" if algorithm == "choco" else algorithm, "every": every}
    job = virtual_job({"name": algorithm}, world, 30, link={"rate": "1Mbit", "delay_ms": 20}, snapshot_every=1000,
                      players={"discriminator": {"algorithm": seldom}})  # fmt: skip
    games = [Broad(rank) for rank in range(world)]
    memory, sent, _ = count(job, games)
    traffics = traffic_by_player(job.config, world, games[0].layout)
    assert {name: traffic.every for name, traffic in traffics.items()} == {"generator": 1, "discriminator": every}
    bound = joint_bound([(traffic, False) for traffic in traffics.values()], job.plans, 0.010, 30)
    step_s = max(of_node[-1].t_s for of_node in memory.steps.values()) / 30
    assert bound.total_s <= step_s <= 1.15 * bound.total_s
    assert sum(sent.values()) == pytest.approx(30 * sum(map(bytes_per_step, traffics.values())))


def test_alike_players_have_the_traffic_of_the_whole_vector() -> None:
    """Float32 has no headers, so two halves are as long as the whole."""
    layout = MatrixGame(0).layout
    for algorithm in ({"name": "dp-oadam"}, {"name": "cp-oadam"}, {"name": "dp-oadam", "every": 3}):
        whole = virtual_job(algorithm, 4).config
        config = virtual_job(algorithm, 4, players={"generator": {}}).config
        parts = traffic_by_player(config, 4, layout)
        assert together(list(parts.values()), 30) == exchange_traffic(whole, 4, 54)
        assert traffic_by_player(whole, 4, layout) == {"": exchange_traffic(whole, 4, 54)}
        assert message_bytes(config, layout) == message_bytes(whole, layout) == 4 * 54
    with pytest.raises(ValueError, match=r"node\.traffic\.players"):
        exchange_traffic(config, 4, 54)


def test_who_is_not_exchanged_weighs_nothing() -> None:
    layout = MatrixGame(0).layout
    seldom = {"algorithm": {"name": "cp-oadam", "every": 5, "collective": "ring"}, "codec": "fp16"}
    config = virtual_job({"name": "local"}, 4, players={"generator": seldom}).config
    assert message_bytes(config, layout) == 2 * 27
    assert exchange_edges(config, 4) == ((0, 1), (1, 2), (2, 3), (3, 0))
    assert steps_between(config) == 5
    assert Worker(config, 0, 4, MatrixGame(0)).window_rounds == 4 + 6
    assert steps_between(virtual_job({"name": "local"}, 4).config) == 1
    often = virtual_job({"name": "dp-oadam"}, 4, players={"generator": seldom}).config
    assert steps_between(often) == lcm(1, 5)
