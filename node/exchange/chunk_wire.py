"""Chunks of proto/exchange.proto as bytes, the payload copied once: protobuf copies it twice on either side.

Any gRPC client may write them as it likes: what is not written as here is read by protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from gannet.node.wire import exchange_pb2, exchange_pb2_grpc

# Keys of the fields, which are a number and the type "length, then so many bytes".
_HEADER_KEY, _DATA_KEY = (
    number << 3 | 2 for number in (exchange_pb2.Chunk.HEADER_FIELD_NUMBER, exchange_pb2.Chunk.DATA_FIELD_NUMBER)
)
_LONGEST_VARINT = 5  # of a length below 4 GiB; gRPC messages are shorter
_SERVICE = exchange_pb2.DESCRIPTOR.services_by_name["Exchange"].full_name


@dataclass(frozen=True, slots=True)
class Chunk:
    """A received chunk; `data` is a view of the message."""

    header: exchange_pb2.Header | None
    data: memoryview


def pack(data: memoryview, header: exchange_pb2.Header | None = None) -> bytes:
    """The message, byte for byte as protobuf's Python writes it."""
    parts: list[bytes | memoryview] = []
    if header is not None:
        text = header.SerializeToString()
        parts += [_length(_HEADER_KEY, len(text)), text]
    if len(data):
        parts += [_length(_DATA_KEY, len(data)), data]
    return b"".join(parts)


def unpack(message: bytes) -> Chunk:
    """Read a message. Raises google.protobuf.message.DecodeError for what is none."""
    header, at = None, 0
    if message[:1] == bytes([_HEADER_KEY]):
        begin, length = _read_length(message, 1)
        at = begin + length
        if not begin or at > len(message):
            return _by_protobuf(message)
        header = exchange_pb2.Header.FromString(message[begin:at])
    if at == len(message):
        return Chunk(header, memoryview(b""))
    if message[at] == _DATA_KEY:
        begin, length = _read_length(message, at + 1)
        if begin and begin + length == len(message):
            return Chunk(header, memoryview(message)[begin:])
    return _by_protobuf(message)


def _by_protobuf(message: bytes) -> Chunk:
    read = exchange_pb2.Chunk.FromString(message)
    return Chunk(read.header if read.HasField("header") else None, memoryview(read.data))


def _length(key: int, count: int) -> bytes:
    """A field's key, and its length as a varint: seven bits a byte, the lowest first, all but the last marked."""
    out = bytearray([key])
    while count > 0x7F:
        out.append(count & 0x7F | 0x80)
        count >>= 7
    out.append(count)
    return bytes(out)


def _read_length(message: bytes, at: int) -> tuple[int, int]:
    """Where the field's bytes begin, and how many they are; begin 0: not a varint that protobuf's Python writes."""
    length = 0
    for place, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return at + place + 1, length
    return 0, 0


class ExchangeStub(exchange_pb2_grpc.ExchangeStub):
    """The generated stub, but Deliver takes messages as `pack` makes them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]
        self.Deliver: Any = channel.stream_stream(
            f"/{_SERVICE}/Deliver",
            response_deserializer=exchange_pb2.Receipt.FromString,
            _registered_method=True,  # type: ignore[call-arg]
        )


def add_to_server(servicer: exchange_pb2_grpc.ExchangeServicer, server: grpc.aio.Server) -> None:
    """Register the service; its Deliver gets chunks as `unpack` makes them."""
    exchange_pb2_grpc.add_ExchangeServicer_to_server(servicer, server)
    deliver = grpc.stream_stream_rpc_method_handler(
        servicer.Deliver, request_deserializer=unpack, response_serializer=exchange_pb2.Receipt.SerializeToString
    )
    server.add_registered_method_handlers(_SERVICE, {"Deliver": deliver})
