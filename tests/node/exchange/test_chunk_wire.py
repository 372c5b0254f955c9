"""Chunks as bytes, against protobuf: every message that it writes is read the same, and written the same."""

from __future__ import annotations

import zlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from gannet.node.exchange.checksum import crc32
from gannet.node.exchange.chunk_wire import pack, unpack
from gannet.node.wire import exchange_pb2

HEADERS = st.none() | st.builds(
    exchange_pb2.Header,
    run=st.text(max_size=20),
    sender=st.integers(0, 2**32 - 1),
    round=st.integers(0, 2**64 - 1),
    schema=st.integers(0, 2**64 - 1),
    bytes=st.integers(0, 2**64 - 1),
    crc32=st.integers(0, 2**32 - 1),
    again=st.booleans(),
)
# About the lengths at which the varint of a length grows by a byte.
DATA = st.binary(max_size=300) | st.sampled_from([127, 128, 16_383, 16_384, 70_000, 2_097_152]).map(bytes)


@given(HEADERS, DATA)
def test_messages_are_protobufs(header: exchange_pb2.Header | None, data: bytes) -> None:
    message = exchange_pb2.Chunk(header=header, data=data)
    packed = pack(memoryview(data), header)
    assert packed == message.SerializeToString()
    read = unpack(packed)
    assert (read.header, bytes(read.data)) == (header, data)
    assert read.header is not None or header is None


def field(number: int, data: bytes, longer: int = 0) -> bytes:
    """A field of bytes; its length in `longer` bytes more than it takes."""
    key, length = bytes([number << 3 | 2]), len(data)
    digits = [length >> 7 * place & 0x7F for place in range(max(1, -(-length.bit_length() // 7)) + longer)]
    return key + bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:]) + data


FIELDS = st.builds(
    field,
    st.integers(1, 15),
    st.binary(max_size=20) | HEADERS.map(lambda each: (each or exchange_pb2.Header()).SerializeToString()),
    st.integers(0, 4),
)
MESSAGES = st.lists(FIELDS, max_size=4).map(b"".join)


@given(MESSAGES | st.binary(max_size=40) | st.tuples(MESSAGES, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]))
@example(field(2, b"data") + field(1, exchange_pb2.Header(run="r").SerializeToString()))
@example(field(2, b"first") + field(2, b"last"))
@example(
    field(1, exchange_pb2.Header(run="r").SerializeToString())
    + field(1, exchange_pb2.Header(round=7).SerializeToString())
)
@example(field(1, b"") + field(2, b""))
@example(b"\x12\x05four")
@example(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x0a\xff\xff\xff\xff\x0f")
def test_any_message_is_read_or_refused_as_by_protobuf(message: bytes) -> None:
    try:
        wanted = exchange_pb2.Chunk.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            unpack(message)
        return
    read = unpack(message)
    assert read.header == (wanted.header if wanted.HasField("header") else None)
    assert bytes(read.data) == wanted.data


@given(st.binary(max_size=5000), st.integers(0, 5000))
def test_checksum_is_zlibs_whole_and_in_parts(data: bytes, cut: int) -> None:
    assert crc32(data) == zlib.crc32(data)
    assert crc32(memoryview(data)[cut:], crc32(data[:cut])) == zlib.crc32(data)
