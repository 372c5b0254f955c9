"""Checks incoming messages, refuses invalid ones with a reason, and keeps the rest until they are used.

One mailbox serves one node on any fabric. It has neither a thread nor a clock: the gRPC exchange
calls it under a lock, the virtual fabric from its event loop, so both refuse the same things.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from gannet.node.codecs import Codec, float32_codec
from gannet.node.exchange import checksum
from gannet.node.training.effects import (
    EPOCH_ROUNDS,
    RAW_SEGMENT,
    CutOff,
    MembersChanged,
    MessageRefused,
    PeerLost,
    Tag,
)


class Verdict(Enum):
    """Why a segment was taken or refused; names and numbers are those of proto/exchange.proto."""

    ACCEPTED = 1
    MALFORMED = 2
    CORRUPT = 3
    WRONG_RUN = 4
    WRONG_SENDER = 5
    WRONG_SCHEMA = 6
    STALE = 7
    TOO_EARLY = 8
    TOO_LARGE = 9
    NOT_FINITE = 10
    REPEATED = 11
    TOO_MUCH = 12


@dataclass(frozen=True)
class Header:
    """A segment's header, sent before its bytes; see proto/exchange.proto."""

    run: str
    sender: int
    tag: Tag
    schema: int
    bytes: int
    crc32: int
    again: bool = False


class Refusal(Exception):
    """A segment that must not be used."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(f"{verdict.name}: {detail}")
        self.verdict = verdict
        self.detail = detail


Waiter = Callable[[memoryview | PeerLost], None]

# What may be kept of one sender before it is asked for: for each round of the window and each player, more than any
# method sends in a round (a ring all-reduce sends two vectors, and what travels as float32 besides), and a floor.
_VECTORS_A_ROUND, _LEAST_KEPT_BYTES = 4, 16 << 20
_SEGMENT_BYTES = 1024  # what a kept segment takes besides its payload, amply
# How far past the window a round may be that a peer has come to in good faith: see Mailbox.is_ahead.
_AHEAD_ROUNDS = 1000


class Mailbox:
    """Checks segments, keeps accepted ones until they are requested, and passes them to waiters.

    `codecs`: one for each player that is exchanged separately, with its own rounds; or one for all.
    """

    def __init__(
        self,
        run: str,
        rank: int,
        world: int,
        schema: int,
        codecs: Codec | Sequence[Codec],
        max_bytes: int,
        window_rounds: int,
    ) -> None:
        self.run = run
        self.rank = rank
        self.world = world
        self.schema = schema
        self.codecs = tuple(codecs) if isinstance(codecs, Sequence) else (codecs,)
        self.raw_codec = float32_codec()
        self.max_bytes = max_bytes
        self.window_rounds = window_rounds
        self.rounds = [0] * len(self.codecs)
        self.on_round: Callable[[], None] | None = None  # called when a round begins
        self.refused: Counter[str] = Counter()
        self.lost: dict[int, str] = {}
        self.cut_off: dict[int, str] = {}  # peers that this node does without until the links are back, and why
        self._healed: dict[int, list[int]] = {}  # peers whose links are back: since which rounds, by player
        vectors = _VECTORS_A_ROUND * (window_rounds + 1) * len(self.codecs)
        self.max_kept_bytes = max(_LEAST_KEPT_BYTES, vectors * max_bytes)
        self._losses_known: int | None = None  # by an algorithm that begins again after each; None: by none
        self._inbox: dict[tuple[int, Tag], memoryview | PeerLost] = {}
        self._kept_bytes: Counter[int] = Counter()  # by sender, each segment with its own cost
        self._waiting: dict[tuple[int, Tag], Waiter] = {}
        self._used: set[tuple[int, Tag]] = set()

    def check_header(self, header: Header) -> None:
        """Raise Refusal if this segment cannot be used, before its bytes are kept."""
        if header.run != self.run:
            raise self._refuse(Verdict.WRONG_RUN, f"run {header.run!r}, here {self.run!r}")
        if not 0 <= header.sender < self.world or header.sender == self.rank:
            raise self._refuse(Verdict.WRONG_SENDER, f"rank {header.sender} is no peer of rank {self.rank}")
        if header.schema != self.schema:
            raise self._refuse(Verdict.WRONG_SCHEMA, f"schema {header.schema:016x}, here {self.schema:016x}")
        if header.tag.player >= len(self.codecs):
            raise self._refuse(Verdict.MALFORMED, f"player {header.tag.player} of {len(self.codecs)}, counted from 0")
        self.check_time(header)
        if header.bytes > self.max_bytes:
            raise self._refuse(Verdict.TOO_LARGE, f"{header.bytes} bytes, limit {self.max_bytes}")
        kept = self._kept_bytes[header.sender]
        if kept + header.bytes + _SEGMENT_BYTES > self.max_kept_bytes and not self._awaited(header):
            detail = (
                f"{header.tag}: {kept} bytes of rank {header.sender} are kept already, limit {self.max_kept_bytes}"
            )
            raise self._refuse(Verdict.TOO_MUCH, detail)

    def _awaited(self, header: Header) -> bool:
        return (header.sender, header.tag) in self._waiting

    def check_time(self, header: Header) -> None:
        """Raise Refusal for a segment of a round that is over or too far ahead, and for a segment received before."""
        key, number = (header.sender, header.tag), self.rounds[header.tag.player]
        if header.tag.round < number or key in self._used or key in self._inbox:
            raise self._stale(header, f"{header.tag} came again or too late, at round {number}")
        if header.tag.round > number + self.window_rounds and not self._is_from_an_epoch_ahead(header.tag.round):
            raise self._refuse(Verdict.TOO_EARLY, f"{header.tag}, at round {number}")

    def is_ahead(self, header: Header) -> bool:
        """Whether a segment is of a round that this node is yet to come near: offer it again when a round begins.

        A sender that waits for fewer peers than this node does, since its own are lost or given up, comes to that
        round earlier. The fabric holds the segment, and gives no receipt, so that the sender is held back.
        """
        if header.run != self.run or header.schema != self.schema or not 0 <= header.tag.player < len(self.codecs):
            return False
        return 0 < header.tag.round - self.rounds[header.tag.player] - self.window_rounds <= _AHEAD_ROUNDS

    def put(self, header: Header, payload: memoryview, crc32: int | None = None) -> None:
        """Check a whole segment and keep it, or raise Refusal; a waiter is notified of a refused payload at once.

        `crc32`: the payload's checksum where it was computed on arrival, else it is computed here.
        """
        self.check_header(header)
        key = (header.sender, header.tag)
        try:
            self._check_payload(header, payload, checksum.crc32(payload) if crc32 is None else crc32)
        except Refusal as refusal:
            self._settle(key, MessageRefused(header.sender, f"message refused: {refusal}"))
            raise
        self._settle(key, payload)

    def _check_payload(self, header: Header, payload: memoryview, crc32: int) -> None:
        if len(payload) != header.bytes:
            raise self._refuse(Verdict.MALFORMED, f"{len(payload)} bytes, announced {header.bytes}")
        if crc32 != header.crc32:
            raise self._refuse(Verdict.CORRUPT, f"CRC-32 {crc32:08x}, announced {header.crc32:08x}")
        try:
            codec = self.raw_codec if header.tag.segment & RAW_SEGMENT else self.codecs[header.tag.player]
            finite = codec.finite(payload)
        except ValueError as error:
            raise self._refuse(Verdict.MALFORMED, str(error)) from None
        if not finite:
            raise self._refuse(Verdict.NOT_FINITE, "NaN or infinity among the values")

    def forged(self, detail: str) -> Refusal:
        """The refusal of a segment that does not come from the rank that it names."""
        return self._refuse(Verdict.WRONG_SENDER, detail)

    def malformed(self, detail: str) -> Refusal:
        """The refusal of a stream that is not a sequence of segments; counted like any other."""
        return self._refuse(Verdict.MALFORMED, detail)

    def expect(self, source: int, tag: Tag, waiter: Waiter) -> None:
        """Call `waiter` with the message, now or when it comes, or with PeerLost when it cannot come."""
        self.enter_round(tag.round, tag.player)
        key = (source, tag)
        if self._losses_known is not None and len(self.lost) > self._losses_known:
            waiter(MembersChanged(*list(self.lost.items())[-1]))
        elif key in self._inbox:
            self._used.add(key)
            kept = self._inbox.pop(key)
            self._kept_bytes[source] -= _cost(kept)
            waiter(kept)
        elif source in self.lost:
            self._used.add(key)
            waiter(PeerLost(source, self.lost[source]))
        elif source in self.cut_off:
            self._used.add(key)
            waiter(CutOff(source, self.cut_off[source]))
        else:
            self._waiting[key] = waiter

    def give_up(self, source: int, tag: Tag, reason: str) -> None:
        """The round's deadline is over: all waits for this segment end, since it will not come."""
        if (source, tag) in self._waiting:
            self._settle((source, tag), PeerLost(source, reason))

    def lose(self, rank: int, reason: str) -> None:
        """That peer is lost permanently: all waits for it end, and later ones at once."""
        self.lost.setdefault(rank, reason)
        if self._losses_known is not None and len(self.lost) > self._losses_known:
            for key in list(self._waiting):
                self._settle(key, MembersChanged(rank, reason))
        for key in [key for key in self._waiting if key[0] == rank]:
            self._settle(key, PeerLost(rank, reason))

    def losses(self) -> tuple[int, ...]:
        """The lost peers, in order; any further loss ends all waits (see gannet.node.training.effects.Losses)."""
        self._losses_known = len(self.lost)
        return tuple(self.lost)

    def cut(self, rank: int, reason: str) -> None:
        """Do without that peer until `heal`: all waits for it end, and later ones at once."""
        self.cut_off.setdefault(rank, reason)
        for key in [key for key in self._waiting if key[0] == rank]:
            self._settle(key, CutOff(rank, reason))

    def heal(self, rank: int, rounds: Sequence[int]) -> None:
        """The links to that peer are back, and all continue after these rounds, by player."""
        self.cut_off.pop(rank, None)
        self._healed[rank] = list(rounds)
        self.enter_rounds(rounds)

    def readmit(self, rank: int) -> None:
        """That peer is back, as another process: what its predecessor sent ahead is dropped."""
        self.lost.pop(rank, None)
        self.cut_off.pop(rank, None)
        for key in [key for key in self._inbox if key[0] == rank]:
            self._kept_bytes[rank] -= _cost(self._inbox.pop(key))

    def enter_round(self, number: int, player: int = 0) -> None:
        """Begin a round of a player: segments of its earlier rounds are stale from now on."""
        if number <= self.rounds[player]:
            return
        self.rounds[player] = number
        self._used = {key for key in self._used if self._is_current(key[1])}
        for key in [key for key in self._inbox if not self._is_current(key[1])]:
            self._kept_bytes[key[0]] -= _cost(self._inbox.pop(key))
        if self.on_round is not None:
            self.on_round()

    def enter_rounds(self, numbers: Sequence[int]) -> None:
        """Begin these rounds, of each player."""
        for player, number in enumerate(numbers):
            self.enter_round(number, player)

    def _is_current(self, tag: Tag) -> bool:
        return tag.round >= self.rounds[tag.player]

    def _settle(self, key: tuple[int, Tag], outcome: memoryview | PeerLost) -> None:
        waiter = self._waiting.pop(key, None)
        if waiter is None:
            self._inbox[key] = outcome
            self._kept_bytes[key[0]] += _cost(outcome)
        else:
            self._used.add(key)
            waiter(outcome)

    def _stale(self, header: Header, detail: str) -> Refusal:
        """A sender whose stream broke cannot know what arrived: what it sends again is dropped, but not refused. Nor
        is what a cut held up.
        """
        held_up = header.sender in self.cut_off or self._is_from_before(header.sender, header.tag)
        if self._losses_known is not None:  # of an average that is begun again
            held_up = held_up or header.tag.round // EPOCH_ROUNDS < len(self.lost)
        return Refusal(Verdict.REPEATED, detail) if header.again or held_up else self._refuse(Verdict.STALE, detail)

    def _is_from_an_epoch_ahead(self, number: int) -> bool:
        """Whether a sender may know of a loss that this node has yet to learn of."""
        epoch, position = divmod(number, EPOCH_ROUNDS)
        ahead = epoch > self.rounds[0] // EPOCH_ROUNDS
        return self._losses_known is not None and ahead and epoch < self.world and position <= self.window_rounds + 1

    def _is_from_before(self, sender: int, tag: Tag) -> bool:
        return sender in self._healed and tag.round <= self._healed[sender][tag.player]

    def _refuse(self, verdict: Verdict, detail: str) -> Refusal:
        self.refused[verdict.name.lower()] += 1
        return Refusal(verdict, detail)


def _cost(kept: memoryview | PeerLost) -> int:
    return _SEGMENT_BYTES + (0 if isinstance(kept, PeerLost) else len(kept))
