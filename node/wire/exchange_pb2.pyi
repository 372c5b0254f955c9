from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    ACCEPTED: _ClassVar[Verdict]
    MALFORMED: _ClassVar[Verdict]
    CORRUPT: _ClassVar[Verdict]
    WRONG_RUN: _ClassVar[Verdict]
    WRONG_SENDER: _ClassVar[Verdict]
    WRONG_SCHEMA: _ClassVar[Verdict]
    STALE: _ClassVar[Verdict]
    TOO_EARLY: _ClassVar[Verdict]
    TOO_LARGE: _ClassVar[Verdict]
    NOT_FINITE: _ClassVar[Verdict]
    REPEATED: _ClassVar[Verdict]
    TOO_MUCH: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
ACCEPTED: Verdict
MALFORMED: Verdict
CORRUPT: Verdict
WRONG_RUN: Verdict
WRONG_SENDER: Verdict
WRONG_SCHEMA: Verdict
STALE: Verdict
TOO_EARLY: Verdict
TOO_LARGE: Verdict
NOT_FINITE: Verdict
REPEATED: Verdict
TOO_MUCH: Verdict

class StateChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: Header
    data: bytes
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Listener(_message.Message):
    __slots__ = ("run", "rank")
    RUN_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    run: str
    rank: int
    def __init__(self, run: _Optional[str] = ..., rank: _Optional[int] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: int
    def __init__(self, round: _Optional[int] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("run", "sender", "round", "segment", "schema", "bytes", "crc32", "player", "again")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    PLAYER_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    run: str
    sender: int
    round: int
    segment: int
    schema: int
    bytes: int
    crc32: int
    player: int
    again: bool
    def __init__(self, run: _Optional[str] = ..., sender: _Optional[int] = ..., round: _Optional[int] = ..., segment: _Optional[int] = ..., schema: _Optional[int] = ..., bytes: _Optional[int] = ..., crc32: _Optional[int] = ..., player: _Optional[int] = ..., again: _Optional[bool] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("round", "segment", "verdict", "detail", "player")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PLAYER_FIELD_NUMBER: _ClassVar[int]
    round: int
    segment: int
    verdict: Verdict
    detail: str
    player: int
    def __init__(self, round: _Optional[int] = ..., segment: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., detail: _Optional[str] = ..., player: _Optional[int] = ...) -> None: ...
