"""Ways in which a message arrives damaged; each must be refused, for the reason that belongs to it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from gannet.node.codecs import Codec, build_codec, float32_codec
from gannet.node.exchange.mailbox import Header
from gannet.node.training.effects import RAW_SEGMENT

POISON = 5e4  # near the end of what fp16 holds; no value of a search comes near it
_MOST_VALUES = 4096


@dataclass(frozen=True)
class Damaged:
    """Changes a message; `codecs`: of each player that is exchanged separately, or of all."""

    way: str
    codecs: tuple[str, ...]

    def __call__(self, header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        name = self.codecs[min(header.tag.player, len(self.codecs) - 1)]  # a message may be damaged twice
        codec = float32_codec() if header.tag.segment & RAW_SEGMENT else build_codec(name)
        return WAYS[self.way][0](header, payload, codec)


def _filled(payload: memoryview, codec: Codec, value: float) -> memoryview:
    """A payload of that length whose values are all `value`; noise where the codec has none of that length."""
    for count in range(1, _MOST_VALUES):
        if codec.wire_bytes(count) == len(payload):
            return codec.encode(torch.full((count,), value))
    return memoryview(bytes(len(payload) * [0xA5]))


def _poisoned(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    return header, _filled(payload, codec, POISON)


def _not_finite(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    return _sealed(header, _filled(payload, codec, float("nan")))


def _one_byte(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    flipped = bytearray(payload)
    if flipped:
        flipped[len(flipped) // 2] ^= 0x40
    return header, memoryview(flipped)


def _cut_short(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    return header, payload[: len(payload) // 2]


def _twice_as_long(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    return _sealed(header, memoryview(64 * bytes(payload)))


def _sealed(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
    return replace(header, bytes=len(payload), crc32=zlib.crc32(payload)), payload


def _relabelled(**changes: object) -> Callable[[Header, memoryview, Codec], tuple[Header, memoryview]]:
    def damage(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
        return _sealed(replace(header, **changes), _filled(payload, codec, POISON))  # type: ignore[arg-type]

    return damage


def _round(shift: int) -> Callable[[Header, memoryview, Codec], tuple[Header, memoryview]]:
    def damage(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
        tag = header.tag._replace(round=max(0, header.tag.round + shift))
        return _sealed(replace(header, tag=tag), _filled(payload, codec, POISON))

    return damage


def _no_player(header: Header, payload: memoryview, codec: Codec) -> tuple[Header, memoryview]:
    return replace(header, tag=header.tag._replace(player=99)), payload


WAYS: dict[str, tuple[Callable[[Header, memoryview, Codec], tuple[Header, memoryview]], frozenset[str]]] = {
    "other values under the old checksum": (_poisoned, frozenset({"corrupt", "malformed"})),
    "NaN": (_not_finite, frozenset({"not_finite"})),
    "one bit flipped": (_one_byte, frozenset({"corrupt"})),
    "cut short": (_cut_short, frozenset({"malformed"})),
    "longer than any message": (_twice_as_long, frozenset({"too_large", "malformed"})),
    "of another run": (_relabelled(run="another"), frozenset({"wrong_run"})),
    "of another schema": (_relabelled(schema=1), frozenset({"wrong_schema"})),
    "from a rank that is not there": (_relabelled(sender=1000), frozenset({"wrong_sender"})),
    "of a round far ahead": (_round(10_000), frozenset({"too_early"})),
    "of a round that is over": (_round(-10_000), frozenset({"stale"})),
    "of a player that is not there": (_no_player, frozenset({"malformed"})),
}
"""The change of each way, and the verdicts that it must meet. A message without values keeps its checksum."""
