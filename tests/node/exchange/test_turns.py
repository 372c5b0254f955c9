"""Turns: the rule by itself, and over real gRPC, where a message goes out when its turn comes and never hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc.aio
import numpy as np
import pytest
import torch

from gannet.node.config import NodeConfig
from gannet.node.exchange.turn_rule import Turns
from gannet.node.traffic.exchange import in_turns
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc
from tests.support.exchanges import Pair
from tests.support.games import BilinearGame
from tests.support.loopback import over_grpc
from tests.support.runs import play, virtual_job


class Node:
    """A node's turns, what it announced, and what it sent."""

    def __init__(self) -> None:
        self.announced: list[int] = []
        self.sent: list[int] = []
        self.turns = Turns(self.announced.append)

    def send(self, number: int) -> object:
        return self.turns.take(number, lambda: self.sent.append(number))


def test_a_node_is_ready_when_all_that_it_gets_is_nearly_there() -> None:
    node = Node()
    node.turns.begin(1, sources=[2, 3], after=[])
    assert node.announced == [1]
    node.turns.nearly(2, 1)
    assert node.announced == [1]
    node.turns.nearly(5, 2)  # whoever it is, and whatever round it is in, only this round's senders count
    node.turns.nearly(3, 1)
    assert node.announced == [1, 2]
    node.turns.begin(2, sources=[5], after=[])  # its message overtook the beginning of the round
    assert node.announced == [1, 2, 3]
    node.turns.begin(3, sources=[], after=[])  # a round in which it gets nothing
    assert node.announced == [1, 2, 3, 4]
    node.turns.begin(4, sources=[2], after=[])
    node.turns.nearly(2, 3)  # late, and of a round that is over
    assert node.announced == [1, 2, 3, 4]


def test_a_message_goes_when_those_before_and_those_it_is_for_are_ready() -> None:
    node = Node()
    node.turns.begin(7, sources=[1], after=[4, 5])
    assert node.send(7) is not None
    node.turns.hear(4, 7)
    node.turns.hear(5, 6)
    assert node.sent == []
    node.turns.hear(5, 8)
    assert node.sent == [7]
    assert node.send(7) is None and node.sent == [7, 7]  # another segment of the round, or to another peer


def test_what_is_ready_stays_ready_and_only_the_current_round_waits() -> None:
    node = Node()
    node.turns.hear(4, 9)
    node.turns.begin(8, sources=[1], after=[4])
    assert node.send(8) is None
    node.turns.begin(10, sources=[1], after=[4])
    assert node.send(9) is None  # say, of the round before; whoever begins a round says what that round's wait for
    held = node.send(10)
    node.turns.begin(11, sources=[1], after=[])
    assert node.send(11) is None and node.sent == [8, 9, 11]
    node.turns.hear(4, 10)
    node.turns.let_go(held)  # the time for it is up: it has gone already
    assert node.sent == [8, 9, 11, 10]


def test_nobody_waits_for_a_lost_peer() -> None:
    node = Node()
    node.turns.begin(1, sources=[2, 3], after=[2, 3])
    node.send(1)
    node.turns.nearly(3, 1)
    node.turns.hear(3, 1)
    assert node.announced == [1] and node.sent == []
    node.turns.lose(2)
    assert node.announced == [1, 2] and node.sent == [1]
    node.turns.begin(2, sources=[2], after=[2])
    assert node.announced == [1, 2, 3] and node.send(2) is None


def test_a_peer_that_cannot_be_heard_for_a_while_is_awaited_again() -> None:
    node = Node()
    node.turns.begin(1, sources=[2], after=[2])
    assert node.send(1) is not None
    node.turns.silence(2)
    assert node.sent == [1] and node.announced == [1]  # what it sends still decides when this node is ready
    node.turns.nearly(2, 1)
    node.turns.begin(2, sources=[2], after=[2])
    assert node.send(2) is None  # it is not waited for
    node.turns.hear(2, 2)
    node.turns.begin(3, sources=[2], after=[2])
    assert node.send(3) is not None and node.announced == [1, 2, 3]
    node.turns.lose(2)
    node.turns.hear(2, 3)  # a word that was on its way
    node.turns.begin(4, sources=[2], after=[2])
    assert node.send(4) is None and node.announced[-1] == 5


def test_who_is_no_more_sends_nothing_of_what_it_held() -> None:
    node = Node()
    node.turns.begin(1, sources=[2], after=[2])
    held = node.send(1)
    node.turns.drop()
    node.turns.hear(2, 1)
    node.turns.let_go(held)  # type: ignore[arg-type]
    assert held is not None and node.sent == []


def test_one_that_lets_go_sends_once() -> None:
    node = Node()
    node.turns.begin(1, sources=[], after=[2])
    held = node.send(1)
    node.turns.let_go(held)
    node.turns.let_go(held)
    node.turns.hear(2, 1)
    assert node.sent == [1]


def taking(size: int = 300_000, world: int = 4, **config: Any) -> bool:
    settings = {"run": "test", "algorithm": {"name": "dp-oadam"}, "exchange": {"pipe_bytes": 50_000}, **config}
    return in_turns(NodeConfig.model_validate(settings), world, size, ())


def test_only_gossip_on_graphs_that_change_takes_turns() -> None:
    assert taking(topology="one-peer-exponential")
    assert taking(topology={"name": "base", "degree": 1}) and taking(topology={"name": "random-ring"})
    assert taking(topology="one-peer-exponential", algorithm={"name": "sgp"})
    assert not taking(topology="one-peer-exponential", world=2)  # the same peer in every round
    assert not any(taking(topology=name) for name in ("ring", "complete", "star", "exponential"))
    for collective in ("server", "ring"):
        assert not taking(algorithm={"name": "cp-oadam", "collective": collective})
    assert not taking(algorithm={"name": "ad-psgd"}, pace_ms=50)
    assert not taking(topology="one-peer-exponential", size=12_000)  # 48 kB: on their way before news could come
    assert not taking(topology="one-peer-exponential", exchange={})


@pytest.fixture
def trio() -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(**limits: Any) -> Pair:
        made.append(Pair(3, 5000, in_turns=True, pipe_bytes=4000, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_on_the_wire_a_message_waits_until_its_receiver_is_ready(trio: Callable[..., Pair]) -> None:
    """Node 2 still waits for node 1's message of round 1: node 0's of round 2 comes later, however early it was."""
    p = trio(turn_s=60.0)
    payload = p.codec.encode(torch.randn(5000))
    for rank, sources, after in ((0, [1], []), (1, [0], []), (2, [1], [])):
        p.nodes[rank].begin_round(1, sources, after)
    p.nodes[0].begin_round(2, [], [1, 2])
    p.nodes[0].send(2, Tag(2, 0), payload, True)
    p.nodes[0].send(1, Tag(1, 0), payload, True)  # of the round before: nothing holds it
    assert bytes(p.nodes[1].receive(0, Tag(1, 0))) == payload
    time.sleep(0.2)
    assert p.nodes[2].counters.read() == {} and p.nodes[0].counters.read()[2].sent_bytes == 0
    p.nodes[1].send(2, Tag(1, 0), payload, True)
    assert bytes(p.nodes[2].receive(1, Tag(1, 0))) == payload
    assert bytes(p.nodes[2].receive(0, Tag(2, 0))) == payload


@pytest.mark.parametrize("how", ["silent", "lost", "gone"])
def test_a_peer_that_is_never_ready_holds_nothing_up_for_long(trio: Callable[..., Pair], how: str) -> None:
    p = trio(turn_s=0.3 if how == "silent" else 60.0)
    payload = p.codec.encode(torch.randn(5000))
    p.nodes[0].begin_round(1, [2], [1, 2])
    p.nodes[2].begin_round(1, [0], [])
    p.nodes[0].send(2, Tag(1, 0), payload, True)
    if how == "lost":  # as the controller says
        p.loop.call_soon_threadsafe(p.nodes[0].lose, 1, "ended")
    if how == "gone":  # as its connection says
        p.call(p.nodes[1].close())
    assert bytes(p.nodes[2].receive(0, Tag(1, 0))) == payload


def test_nobody_is_told_of_another_run(trio: Callable[..., Pair]) -> None:
    async def attend(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            async for _ in exchange_pb2_grpc.ExchangeStub(channel).Attend(exchange_pb2.Listener(run="x", rank=1)):
                pass

    p = trio()
    with pytest.raises(grpc.aio.AioRpcError, match="not a message of this run"):
        p.call(attend(p.addresses[0]))


@pytest.mark.parametrize(
    "algorithm", [{"name": "dp-oadam", "overlap": True}, {"name": "sgp"}], ids=lambda a: a["name"]
)
def test_the_same_bits_and_bytes_with_turns_and_without_on_every_fabric(algorithm: dict[str, Any]) -> None:
    job = virtual_job(algorithm, 4, 12, topology="one-peer-exponential", exchange={"pipe_bytes": 100, "turn_s": 5.0})
    plain = replace(job, config=job.config.model_copy(update={"exchange": job.config.exchange.model_copy(
        update={"pipe_bytes": None})}))  # fmt: skip
    games = [[BilinearGame(r, dimension=40, noise=0.1, spread=0.5) for r in range(4)] for _ in range(3)]
    (with_turns, _), (without, _) = play(job, games[0]), play(plain, games[1])
    states, sent, refused = over_grpc(job, games[2])
    np.testing.assert_array_equal(with_turns.states(12), without.states(12))
    np.testing.assert_array_equal(with_turns.states(12), states)
    assert not np.array_equal(states[0], states[1]) and not refused
    for memory in (with_turns, without):
        assert sent == [sum(step.codec_bytes for step in memory.steps[rank]) for rank in range(4)]
