"""A node's peers as an algorithm sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from gannet.node.codecs import Codec, float32_codec
from gannet.node.codecs.cast import CastCodec
from gannet.node.codecs.finite import all_finite
from gannet.node.mixing.base import MixingRule
from gannet.node.mixing.mean import MeanRule
from gannet.node.topologies.topology import Neighbourhood
from gannet.node.training.effects import RAW_SEGMENT, BeginRound, CutOff, MessageRefused, PeerLost, Receive, Send, Tag

# A node's neighbours in a gossip round, by the round's number.
Mixing = Callable[[int], Neighbourhood]


class CollectiveFailed(Exception):
    """A centralized average that cannot be completed without the lost peer."""


class Diverged(Exception):
    """The parameters or the gradient are no longer finite."""


class OutOfRange(Exception):
    """Finite values that are too large for the codec or the hook that was to pack them."""


@dataclass
class Peers:
    """This node's place among the others, their codec and its mixing rule; counts what it hands to the network."""

    rank: int
    world: int
    codec: Codec
    segment_bytes: int
    round: int = 0
    codec_bytes: int = 0
    missing: set[int] = field(default_factory=set)
    raw_codec: Codec = field(default_factory=lambda: float32_codec())
    in_turns: bool = (
        False  # whether gossip's graph changes, so that messages take turns (see gannet.node.exchange.turn_rule)
    )
    mixing: MixingRule = field(default_factory=MeanRule)
    _gossiped: tuple[int, frozenset[int]] = (-1, frozenset())  # the last round in turns, and its receivers

    def miss(self, lost: PeerLost) -> None:
        """Note a message that a mix of this step lacks; over a cut link none is due."""
        if not isinstance(lost, CutOff):
            self.missing.add(lost.rank)

    def next_round(self) -> int:
        """Number of the next exchange round; all nodes of a synchronous algorithm count alike."""
        self.round += 1
        return self.round

    async def begin_round(self, number: int, here: Neighbourhood) -> None:
        """Have the messages of a gossip round take turns with those of the round before, where the graph changes."""
        if not self.in_turns:
            return
        before, sent_to = self._gossiped
        after = sent_to | {*here.outgoing} if before == number - 1 and sent_to != {*here.outgoing} else ()
        self._gossiped = number, frozenset(here.outgoing)
        await BeginRound(number, tuple(here.incoming), tuple(sorted(after)))

    def encode(self, values: Tensor, tag: Tag | None = None) -> memoryview:
        """Payload of `values` for that segment, or for any that the exchange's codec packs.

        Raises Diverged or OutOfRange where it would not be finite: every receiver would refuse it, and take this node
        for lost.
        """
        codec = self.codec if tag is None else self.codec_of(tag)
        payload = codec.encode(values)
        if not codec.finite(payload):
            if not all_finite(values):
                raise Diverged(f"rank {self.rank}: values to be sent in round {self.round} are not finite")
            largest = float(values.abs().max())
            raise OutOfRange(
                f"rank {self.rank}: codec {codec.name} cannot hold {largest:.6g}, the largest of the values to be "
                f"sent in round {self.round}: use codec bf16 or fp32, or a lower learning rate if the values grow"
            )
        return payload

    async def send(self, to: int, tag: Tag, payload: memoryview, last: bool = True) -> None:
        """Hand an encoded payload to the network."""
        self.codec_bytes += len(payload)
        await Send(to, tag, payload, last)

    async def receive(self, source: int, tag: Tag, count: int) -> Tensor:
        """Flat float32 tensor of `count` values, or PeerLost."""
        return self.decode(source, tag, await Receive(source, tag), count)

    async def peek(self, source: int, tag: Tag, count: int) -> Tensor:
        """As `receive`, for a caller that reads the values and does not change them."""
        return self.view(source, tag, await Receive(source, tag), count)

    def codec_of(self, tag: Tag) -> Codec:
        """The codec that packs that segment: float32 where its number says so."""
        return self.raw_codec if tag.segment & RAW_SEGMENT else self.codec

    def decode(self, source: int, tag: Tag, payload: memoryview, count: int) -> Tensor:
        """The `count` values of a payload that came, or PeerLost."""
        return _of_length(self.codec_of(tag).decode(payload), source, count)

    def view(self, source: int, tag: Tag, payload: memoryview, count: int) -> Tensor:
        """As `decode`, for a caller that reads the values and does not change them: it may spare a copy."""
        codec = self.codec_of(tag)
        values = codec.view(payload) if isinstance(codec, CastCodec) else codec.decode(payload)
        return _of_length(values, source, count)


def _of_length(values: Tensor, source: int, count: int) -> Tensor:
    if len(values) != count:
        raise MessageRefused(source, f"message of {len(values)} values where {count} were expected")
    return values
