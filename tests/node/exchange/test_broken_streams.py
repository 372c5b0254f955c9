"""Streams that break although both nodes are well: what was under way is sent again, and used once."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.node.codecs import build_codec
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal, Verdict
from gannet.node.training.effects import PeerLost, Tag
from tests.support.exchanges import SCHEMA, Pair
from tests.support.relay import Relay

VALUES = 5000
CODEC = build_codec("fp32")
PAYLOAD_BYTES = 4 * VALUES

Make = Callable[..., tuple[Pair, list[Relay]]]


def _relayed(
    made: list[Any],
    break_after: tuple[int, ...] = (),
    before_break: Callable[[], None] = lambda: None,
    **limits: Any,
) -> tuple[Pair, list[Relay]]:
    relays: list[Relay] = []

    def through(address: str) -> str:
        relays.append(Relay(address, break_after, before_break=before_break))
        return relays[-1].address

    pair = Pair(2, VALUES, through=through, **limits)
    made += [*relays, pair]
    return pair, relays


@pytest.fixture
def relayed() -> Iterator[Make]:
    """Two nodes that reach each other through relays only; by default every relay's first connection stays."""
    made: list[Any] = []
    yield lambda *args, **limits: _relayed(made, *args, **limits)
    for each in reversed(made):
        each.close()


def _payloads(count: int) -> list[memoryview]:
    return [CODEC.encode(torch.full((VALUES,), float(number))) for number in range(count)]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1_000, 3 * PAYLOAD_BYTES), min_size=1, max_size=3))
def test_wherever_connections_break_every_segment_is_used_once(break_after: list[int]) -> None:
    made: list[Any] = []
    try:
        pair, _ = _relayed(made, tuple(break_after))
        payloads = _payloads(3)
        for segment, payload in enumerate(payloads):
            pair.nodes[0].send(1, Tag(1, segment), payload, segment == 2)
        got = [pair.nodes[1].receive(0, Tag(1, segment)) for segment in range(3)]
        assert got == payloads
        pair.call(pair.nodes[0].drain(300.0))
        assert pair.nodes[1].inbox.refused() == {}
        assert pair.refusals == []
        assert pair.nodes[0].counters.sent_bytes >= 3 * PAYLOAD_BYTES
    finally:
        for each in reversed(made):
            each.close()


def test_a_message_that_a_broken_connection_cut_short_is_not_refused(relayed: Make) -> None:
    """A receiver that is busy meanwhile sees the end of the messages before the call is cancelled."""

    def keep_the_loop_busy() -> None:
        time.sleep(0.3)  # what was carried has been taken
        pair.loop.call_soon_threadsafe(time.sleep, 0.4)
        time.sleep(0.2)

    pair, _ = relayed((9_000,), keep_the_loop_busy)
    payload = _payloads(1)[0]
    pair.nodes[0].send(1, Tag(1, 0), payload, True)
    assert pair.nodes[1].receive(0, Tag(1, 0)) == payload
    assert pair.nodes[1].inbox.refused() == {}
    assert pair.refusals == []


def test_a_round_outlives_a_cut(relayed: Make) -> None:
    pair, relays = relayed()
    payload = _payloads(1)[0]
    for relay in relays:
        relay.cut()
    pair.nodes[0].send(1, Tag(1, 0), payload, True)
    got: list[memoryview] = []
    waiting = threading.Thread(target=lambda: got.append(pair.nodes[1].receive(0, Tag(1, 0))))
    waiting.start()
    waiting.join(1.0)
    assert got == []
    for relay in relays:
        relay.heal()
    waiting.join(120)
    assert got == [payload]


def test_a_stream_that_breaks_while_it_has_nothing_to_send_is_noticed(relayed: Make) -> None:
    """In a ring, a node's next segment waits for one that depends on what the broken stream carried."""
    pair, relays = relayed()
    first, second = _payloads(2)
    lock = pair.nodes[1].inbox._lock
    with lock:  # the receiver is stuck, so the segment has no receipt when the stream breaks
        pair.nodes[0].send(1, Tag(1, 0), first, False)
        threading.Event().wait(0.3)
        relays[-1].cut()
        relays[0].cut()
    for relay in relays:
        relay.heal()
    assert pair.nodes[1].receive(0, Tag(1, 0)) == first
    pair.nodes[0].send(1, Tag(1, 1), second, True)
    assert pair.nodes[1].receive(0, Tag(1, 1)) == second


def test_a_cut_that_stays_costs_the_round_and_is_told_of(relayed: Make) -> None:
    pair, relays = relayed(chunk_deadline_s=0.5, patience_s=0.5, round_deadline_s=1.0)
    for relay in relays:
        relay.cut()
    pair.nodes[0].send(1, Tag(1, 0), _payloads(1)[0], True)
    with pytest.raises(PeerLost):
        pair.nodes[1].receive(0, Tag(1, 0))
    pair.call(pair.nodes[0].drain(300.0))
    assert (0, 1, 1) in pair.waits
    assert pair.nodes[0].counters.read() == pair.nodes[0].counters.read()  # no clock of it runs any more


def test_what_is_marked_as_sent_again_is_no_refusal_where_it_is_there_already() -> None:
    box = Mailbox("run", 0, 2, SCHEMA, CODEC, PAYLOAD_BYTES, 4)
    payload = CODEC.encode(torch.ones(10))
    head = Header("run", 1, Tag(1, 0), SCHEMA, len(payload), zlib.crc32(payload))
    box.put(head, payload)
    with pytest.raises(Refusal) as repeated:
        box.check_header(Header("run", 1, Tag(1, 0), SCHEMA, len(payload), zlib.crc32(payload), again=True))
    assert repeated.value.verdict is Verdict.REPEATED
    assert not box.refused
    with pytest.raises(Refusal) as stale:
        box.check_header(head)
    assert stale.value.verdict is Verdict.STALE
    assert box.refused == {"stale": 1}
