"""What somebody can do who reaches a node's exchange, and what it costs the node: harmless input throughout."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import torch

from gannet.node.codecs import build_codec
from gannet.node.exchange import gate
from gannet.node.exchange.gate import host_of, host_of_peer
from gannet.node.training.effects import Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc
from tests.support.exchanges import SCHEMA, Pair
from tests.support.relay import Relay

VALUES = 5000
GENUINE = build_codec("fp32").encode(torch.ones(VALUES))
FORGED = build_codec("fp32").encode(torch.zeros(VALUES))
ELSEWHERE = "127.0.0.9"  # an address of no node


@pytest.fixture
def pair() -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(**limits: Any) -> Pair:
        made.append(Pair(2, VALUES, **{"chunk_bytes": 100_000, **limits}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def elsewhere() -> Iterator[Callable[[str], str]]:
    """By which address a node sees one call that is at no node's address."""
    made: list[Relay] = []

    def through(address: str) -> str:
        made.append(Relay(address, source=ELSEWHERE))
        return made[-1].address

    yield through
    for one in made:
        one.close()


def message(payload: memoryview, **changes: Any) -> exchange_pb2.Chunk:
    fields = {"run": "run", "sender": 1, "round": 1, "schema": SCHEMA, "bytes": len(payload)}
    header = exchange_pb2.Header(**{**fields, "crc32": zlib.crc32(payload), **changes})
    return exchange_pb2.Chunk(header=header, data=bytes(payload))


async def deliver(address: str, messages: list[exchange_pb2.Chunk]) -> list[exchange_pb2.Receipt]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = exchange_pb2_grpc.ExchangeStub(channel).Deliver(iter(messages))
        return [receipt async for receipt in call]


@pytest.mark.parametrize("changes", [{}, {"crc32": 1}, {"bytes": 2}, {"again": True}], ids=str)
def test_a_message_from_an_address_that_is_not_its_senders_changes_nothing(
    pair: Callable[..., Pair], elsewhere: Callable[[str], str], changes: dict[str, Any]
) -> None:
    p = pair()
    receipts = p.call(deliver(elsewhere(p.addresses[0]), [message(FORGED, **changes)]))
    assert [receipt.verdict for receipt in receipts] == [exchange_pb2.WRONG_SENDER]
    p.nodes[1].send(0, Tag(1, 0), GENUINE, True)
    assert p.nodes[0].receive(1, Tag(1, 0)) == GENUINE
    assert p.refusals == [(1, 0, "wrong_sender", f"rank 1 is not at {ELSEWHERE}")]


@pytest.mark.parametrize(
    ("changes", "secret"), [({"run": "x"}, "'run'"), ({"schema": 1}, f"{SCHEMA:016x}")], ids=["run", "schema"]
)
def test_a_refusal_does_not_say_what_would_have_been_taken(
    pair: Callable[..., Pair], changes: dict[str, Any], secret: str
) -> None:
    p = pair()
    (receipt,) = p.call(deliver(p.addresses[0], [message(FORGED, **changes)]))
    assert receipt.detail == "not a message of this run"
    assert secret in p.refusals[0][3]  # this run's own report does say it


def test_whoever_is_no_member_may_not_listen(pair: Callable[..., Pair], elsewhere: Callable[[str], str]) -> None:
    async def attend(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            async for _ in exchange_pb2_grpc.ExchangeStub(channel).Attend(exchange_pb2.Listener(run="run", rank=1)):
                pass

    p = pair()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        p.call(attend(elsewhere(p.addresses[0])))
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_stream_that_says_nothing_is_ended(pair: Callable[..., Pair]) -> None:
    p = pair(chunk_deadline_s=0.1, patience_s=0.1, round_deadline_s=0.3)

    async def idle(address: str) -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(address) as channel:
            call = exchange_pb2_grpc.ExchangeStub(channel).Deliver()
            begun = message(GENUINE)
            begun.data = b""
            await call.write(begun)
            return await call.code()

    assert p.call(idle(p.addresses[0])) is grpc.StatusCode.DEADLINE_EXCEEDED
    p.nodes[1].send(0, Tag(1, 0), GENUINE, True)
    assert p.nodes[0].receive(1, Tag(1, 0)) == GENUINE


def test_a_flood_of_streams_ends_at_a_limit_and_holds_up_nobody_else(
    pair: Callable[..., Pair], elsewhere: Callable[[str], str]
) -> None:
    p = pair()

    async def flood(address: str, count: int) -> int:
        """How many of so many open streams were refused: five, or more if more are within a second of those."""
        async with grpc.aio.insecure_channel(address) as channel:
            calls = [exchange_pb2_grpc.ExchangeStub(channel).Deliver() for _ in range(count)]
            await asyncio.gather(*(call.write(message(FORGED)) for call in calls), return_exceptions=True)
            for _ in range(1200):
                await asyncio.sleep(0.1)
                if sum(call.done() for call in calls) >= 5:
                    break
            await asyncio.sleep(1.0)
            return sum(call.done() for call in calls)

    # Twice the window and two for each node, and the loopback's address has two.
    limit = 2 * (p.config.window_rounds + 2)
    assert p.call(flood(p.addresses[0], 2 * limit + 5)) == 5
    assert p.call(flood(elsewhere(p.addresses[0]), limit + 5)) == 5
    p.nodes[1].send(0, Tag(2, 0), GENUINE, True)
    assert p.nodes[0].receive(1, Tag(2, 0)) == GENUINE


def test_a_flood_of_calls_is_refused_while_a_genuine_node_is_heard(
    pair: Callable[..., Pair], elsewhere: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those at an address of no node are refused, and the nodes' messages come through."""
    monkeypatch.setattr(gate, "STRANGERS_RATE", 1e-6)
    monkeypatch.setattr(gate, "STRANGERS_BURST", 30.0)
    p = pair()

    async def flood(address: str, count: int) -> Counter[grpc.StatusCode]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = exchange_pb2_grpc.ExchangeStub(channel)
            calls = [stub.Attend(exchange_pb2.Listener(run="x", rank=1)) for _ in range(count)]
            return Counter([await call.code() for call in calls])

    refused, too_many = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED
    assert p.call(flood(elsewhere(p.addresses[0]), 80)) == {refused: 30, too_many: 50}
    for number in range(1, 6):
        p.nodes[1].send(0, Tag(number, 0), GENUINE, True)
        assert p.nodes[0].receive(1, Tag(number, 0)) == GENUINE


def test_a_member_that_calls_too_often_is_heard_again_in_time(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages wait for the next attempt, and none of them is lost."""
    monkeypatch.setattr(gate, "MEMBERS_RATE", 1.0)
    monkeypatch.setattr(gate, "MEMBERS_BURST", 1.0)
    p = pair()
    for number in range(1, 6):  # two at once, which share an address, and then two a second
        p.nodes[1].send(0, Tag(number, 0), GENUINE, True)
        assert p.nodes[0].receive(1, Tag(number, 0)) == GENUINE
    assert p.refusals == []


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.77.0.2:4711", "10.77.0.2"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[fd00:0:0::7]:4711", "fd00::7"),
        ("unix:/tmp/socket", ""),
    ],
)
def test_callers_are_told_by_their_hosts(peer: str, host: str) -> None:
    assert host_of_peer(peer) == host


def test_a_members_address_is_no_name() -> None:
    with pytest.raises(ValueError, match="node-1"):
        host_of("node-1:5000")
