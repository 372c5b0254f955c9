"""The exchange over real gRPC on the loopback: what arrives, what is refused, what a dead peer does."""

from __future__ import annotations

import gc
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from gannet.node.training.effects import RAW_SEGMENT, PeerLost, Tag
from gannet.node.wire import exchange_pb2, exchange_pb2_grpc
from tests.support.exchanges import SCHEMA, Pair
from tests.support.patience import wait_until


@pytest.fixture
def pair() -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(world: int = 2, count: int = 5000, **limits: Any) -> Pair:
        made.append(Pair(world, count, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_parts_of_a_round_arrive_whole_and_are_counted(pair: Callable[..., Pair]) -> None:
    p = pair()
    values = torch.randn(5000)
    payload = p.codec.encode(values)
    p.nodes[0].send(1, Tag(1, 0), payload, False)
    p.nodes[0].send(1, Tag(1, 1), payload[:4], False)
    p.nodes[0].send(1, Tag(1, 2), memoryview(b""), True)
    assert bytes(p.nodes[1].receive(0, Tag(1, 1))) == bytes(payload[:4])
    np.testing.assert_array_equal(p.codec.decode(p.nodes[1].receive(0, Tag(1, 0))), values)
    assert bytes(p.nodes[1].receive(0, Tag(1, 2))) == b""
    p.call(p.nodes[0].drain(300))
    assert len(payload) + 4 < p.nodes[0].grpc_bytes < 1.05 * len(payload)
    assert not p.refusals


def test_rounds_whose_parts_are_all_raw_take_room_and_give_it_back(pair: Callable[..., Pair]) -> None:
    """Each round takes room once, whatever its segments are: else the window would grow, and release would fail."""
    p = pair(window_rounds=2)
    complaints: list[dict[str, Any]] = []
    p.loop.set_exception_handler(lambda loop, context: complaints.append(context))
    payload = p.codec.encode(torch.randn(10))
    for number in range(1, 7):
        p.nodes[0].send(1, Tag(number, 0 | RAW_SEGMENT), payload, False)
        p.nodes[0].send(1, Tag(number, 1 | RAW_SEGMENT), payload, True)
        for segment in (0, 1):
            assert len(p.nodes[1].receive(0, Tag(number, segment | RAW_SEGMENT))) == len(payload)
    p.call(p.nodes[0].drain(300))
    gc.collect()
    assert not complaints and not p.refusals and not p.waits


def test_traffic_is_counted_by_peer(pair: Callable[..., Pair]) -> None:
    p = pair(world=3)
    payload = p.codec.encode(torch.randn(5000))
    for to in (1, 2):
        p.nodes[0].send(to, Tag(1, 0), payload, True)
    p.nodes[0].send(1, Tag(2, 0), payload, True)
    for rank, number in ((1, 1), (2, 1), (1, 2)):
        p.nodes[rank].receive(0, Tag(number, 0))
    p.call(p.nodes[0].drain(300))
    sent = p.nodes[0].counters.read()
    assert (
        sent[1].sent_bytes == 2 * sent[2].sent_bytes
        and sent[1].sent_bytes + sent[2].sent_bytes == p.nodes[0].grpc_bytes
    )
    assert len(payload) < sent[2].sent_bytes < 1.05 * len(payload)
    assert [p.nodes[rank].counters.read()[0].received_bytes for rank in (1, 2)] == [2 * len(payload), len(payload)]
    assert all(sent[to].busy_s > 0 for to in (1, 2))
    assert sent == p.nodes[0].counters.read()  # every segment has its receipt: no clock runs any more


def test_parts_for_a_peer_that_is_gone_are_not_under_way_for_ever(pair: Callable[..., Pair]) -> None:
    p = pair(chunk_deadline_s=0.5, patience_s=0.5, round_deadline_s=1.0)
    p.call(p.nodes[1].close())
    p.nodes[0].send(1, Tag(1, 0), p.codec.encode(torch.randn(5000)), True)
    p.call(p.nodes[0].drain(300))
    assert p.nodes[0].counters.read() == p.nodes[0].counters.read()


def test_many_rounds_both_ways_in_order(pair: Callable[..., Pair]) -> None:
    p = pair(count=100)

    def work(rank: int) -> None:
        for number in range(1, 30):
            p.nodes[rank].send(1 - rank, Tag(number, 0), p.codec.encode(torch.full((100,), float(number))), True)
            got = p.codec.decode(p.nodes[rank].receive(1 - rank, Tag(number, 0)))
            assert (got == number).all()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not p.refusals


async def deliver(address: str, messages: list[exchange_pb2.Chunk]) -> list[exchange_pb2.Receipt]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = exchange_pb2_grpc.ExchangeStub(channel).Deliver(iter(messages))
        return [receipt async for receipt in call]


def message(payload: bytes, **changes: Any) -> exchange_pb2.Chunk:
    fields = {"run": "run", "sender": 1, "round": 1, "segment": 0, "schema": SCHEMA, "bytes": len(payload)}
    return exchange_pb2.Chunk(
        header=exchange_pb2.Header(**{**fields, "crc32": zlib.crc32(payload), **changes}), data=payload
    )


GOOD = np.ones(4, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("chunk", "verdict"),
    [
        (message(GOOD), exchange_pb2.ACCEPTED),
        (message(GOOD, run="another"), exchange_pb2.WRONG_RUN),
        (message(GOOD, schema=8), exchange_pb2.WRONG_SCHEMA),
        (message(GOOD, sender=0), exchange_pb2.WRONG_SENDER),
        (message(GOOD, crc32=5), exchange_pb2.CORRUPT),
        (message(GOOD, round=6000), exchange_pb2.TOO_EARLY),
        (message(GOOD, bytes=10**12), exchange_pb2.TOO_LARGE),
        (message(GOOD, bytes=20), exchange_pb2.MALFORMED),
        (message(GOOD, bytes=8), exchange_pb2.MALFORMED),
        (message(np.array([np.inf], "<f4").tobytes()), exchange_pb2.NOT_FINITE),
        (message(b"\x80\x04\x95pickle"), exchange_pb2.MALFORMED),
    ],
)
def test_what_a_stranger_sends(pair: Callable[..., Pair], chunk: exchange_pb2.Chunk, verdict: int) -> None:
    """Sent by a client of its own making, so that nothing of ours puts it right first."""
    p = pair()
    receipts = p.call(deliver(p.addresses[0], [chunk]))
    assert [receipt.verdict for receipt in receipts] == [verdict]
    if verdict == exchange_pb2.ACCEPTED:
        assert bytes(p.nodes[0].receive(1, Tag(1, 0))) == GOOD
    else:
        assert p.refusals[0][:2] == (chunk.header.sender, 0)
        assert receipts[0].detail
        assert sum(p.nodes[0].inbox.refused().values()) == 1


def test_oversized_messages_and_headless_streams_end_with_a_status(pair: Callable[..., Pair]) -> None:
    p = pair()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        p.call(deliver(p.addresses[0], [message(b"\0" * 20_000)]))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError) as error:
        p.call(deliver(p.addresses[0], [exchange_pb2.Chunk(data=GOOD)]))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_silent_peer_costs_one_deadline_and_no_more(pair: Callable[..., Pair]) -> None:
    p = pair(chunk_deadline_s=0.1, patience_s=0.1, round_deadline_s=0.2)
    with pytest.raises(PeerLost, match=r"no message within 0\.2 s"):
        p.nodes[0].receive(1, Tag(1, 0))
    assert p.waits == [(0, 1, 1)]  # said once, when patience was over


def test_a_dead_peer_never_blocks_the_sender(pair: Callable[..., Pair]) -> None:
    p = pair(round_deadline_s=1.0, patience_s=0.5, chunk_deadline_s=0.5, window_rounds=2)
    p.call(p.nodes[1].close())
    payload = p.codec.encode(torch.ones(5000))
    for number in range(1, 8):  # more rounds than the window holds
        p.nodes[0].send(1, Tag(number, 0), payload, True)
    with pytest.raises(PeerLost):
        p.nodes[0].receive(1, Tag(7, 0))
    assert {(rank, source) for rank, source, _ in p.waits} == {(0, 1)}


def test_what_is_on_its_way_to_a_lost_peer_is_waited_for_no_longer(pair: Callable[..., Pair]) -> None:
    """A node that hangs takes nothing and closes nothing: who leaves would wait for its receipts to the deadline."""
    p = pair(window_rounds=1, chunk_deadline_s=300.0, patience_s=300.0, round_deadline_s=600.0, liveness_s=1200.0)
    payload = p.codec.encode(torch.ones(5000))
    p.nodes[0].send(1, Tag(1, 0), payload, False)  # its stream stays open
    p.nodes[1].receive(0, Tag(1, 0))
    more = threading.Thread(target=p.nodes[0].send, args=(1, Tag(2, 0), payload, True))
    more.start()  # there is no room for a second round
    more.join(0.1)
    assert more.is_alive()
    p.loop.call_soon_threadsafe(p.nodes[0].lose, 1, "it hangs")
    more.join(120)
    assert not more.is_alive()
    p.call(p.nodes[0].drain(600.0))
    assert p.nodes[0].counters.read() == p.nodes[0].counters.read()  # nothing is under way


def test_the_sender_waits_where_the_receiver_does_not_read(pair: Callable[..., Pair]) -> None:
    """Backpressure: no more rounds leave than the window allows while none is acknowledged."""
    p = pair(window_rounds=2)
    sent = []

    def work() -> None:
        for number in range(1, 20):
            p.nodes[0].send(1, Tag(number, 0), p.codec.encode(torch.ones(5000)), True)
            sent.append(number)

    with p.nodes[1].inbox._lock:  # the receiver is stuck: nothing is taken, nothing acknowledged
        thread = threading.Thread(target=work)
        thread.start()
        wait_until("the window is full", lambda: len(sent) >= 2)
        thread.join(0.3)
        assert sent == [1, 2]
    for number in range(1, 20):
        p.codec.decode(p.nodes[1].receive(0, Tag(number, 0)))
    thread.join(120)
    assert not thread.is_alive() and sent == list(range(1, 20))


def test_a_message_ahead_of_its_receiver_holds_its_sender_back_and_is_used(pair: Callable[..., Pair]) -> None:
    """A node that waits for nobody any more, since its senders are lost, runs ahead of those it sends to."""
    p = pair(window_rounds=2)  # two rounds ahead are kept, and two more may be under way
    sent = []

    def work() -> None:
        for number in range(1, 40):
            p.nodes[0].send(1, Tag(number, 0), p.codec.encode(torch.full((5000,), float(number))), True)
            sent.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(1, 40):
        payload = p.nodes[1].receive(0, Tag(number, 0))
        assert p.codec.decode(payload)[0] == number
        assert max(sent, default=0) <= number + 2 + 2  # once more could be lost, for nobody would have room for it
    thread.join(120)
    assert not thread.is_alive() and not p.refusals and p.nodes[1].inbox.refused() == {}
