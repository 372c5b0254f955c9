"""Arbitrary bytes where messages and checkpoints are expected: the documented refusal with a reason, or a value."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.node.codecs import build_codec
from gannet.node.codecs.registry import NAMES
from gannet.node.exchange.mailbox import Header, Mailbox, Refusal
from gannet.node.training.checkpoint import Checkpoint, CheckpointError
from gannet.node.training.effects import Tag
from gannet.node.wire import control_pb2, exchange_pb2

payloads = st.binary(max_size=300)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(payload=payloads)
def test_a_payload_is_decoded_or_refused_with_a_reason(name: str, payload: bytes) -> None:
    codec = build_codec(name)
    try:
        finite = codec.finite(memoryview(payload))
    except ValueError as error:
        assert str(error)
        return
    if finite:  # then it can be decoded, and to finite numbers of which there are no more than bits
        values = codec.decode(memoryview(payload))
        assert len(values) <= 1_000_000
        assert all(math.isfinite(value) for value in values[:1000].tolist())


headers = st.builds(
    Header,
    run=st.sampled_from(["run", "", "another"]),
    sender=st.integers(-2, 5),
    tag=st.builds(Tag, st.integers(0, 12), st.integers(0, 2**32 - 1), st.integers(0, 3)),
    schema=st.sampled_from([7, 8]),
    bytes=st.integers(0, 400),
    crc32=st.integers(0, 2**32 - 1),
    again=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(headers, payloads), max_size=20))
def test_a_mailbox_refuses_with_a_reason_and_keeps_a_bounded_amount(messages: list[tuple[Header, bytes]]) -> None:
    mailbox = Mailbox("run", 0, 4, 7, build_codec("fp32"), 256, 4)
    refused = 0
    for header, payload in messages:
        try:
            mailbox.put(header, memoryview(payload))
        except Refusal as refusal:
            refused += 1
            assert refusal.detail and refusal.verdict
    assert sum(mailbox.refused.values()) <= refused


@settings(max_examples=200, deadline=None)
@given(payload=payloads)
def test_a_checkpoint_of_any_bytes_is_refused(payload: bytes) -> None:
    with pytest.raises(CheckpointError, match="somewhere: "):
        Checkpoint.unpack(payload, "somewhere")


KINDS = [exchange_pb2.Chunk, exchange_pb2.Receipt, exchange_pb2.Listener, control_pb2.Report, control_pb2.Order,
         control_pb2.SnapshotChunk, control_pb2.AgentWord]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.DESCRIPTOR.name)
@settings(max_examples=150, deadline=None)
@given(payload=payloads)
def test_wire_messages_are_read_or_refused(kind: type, payload: bytes) -> None:
    try:
        message = kind.FromString(payload)  # type: ignore[attr-defined]
    except DecodeError:
        return
    assert kind.FromString(message.SerializeToString()).SerializeToString() == message.SerializeToString()  # type: ignore[attr-defined]
