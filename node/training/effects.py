"""The effects that an algorithm may wait for.

An algorithm is a coroutine. It never sleeps, blocks or opens a socket: it awaits one of the effects
below, and the fabric that drives it performs the effect, on the wall clock over gRPC or on the
virtual clock in memory. That is why the same algorithm runs, bit for bit, on every fabric.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


RAW_SEGMENT = 1 << 31
"""Set in a segment's number when its values travel as float32, whatever the exchange's codec."""


EPOCH_ROUNDS = 1 << 32
"""Rounds of one epoch, where averages are formed again after losses: a round's number is epoch · EPOCH_ROUNDS + its
number in the epoch, which is the number of losses before it."""


class Tag(NamedTuple):
    """Names a message between two nodes: the exchange round, and the segment within that round.

    `player`: where the task's players are exchanged separately, the number of the message's player. Each player then
    has its own rounds (see gannet.node.players).
    """

    round: int
    segment: int
    player: int = 0


class PeerLost(Exception):
    """The peer is gone, or its message did not come before the round's deadline."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank}: {reason}")
        self.rank = rank
        self.reason = reason


class MessageRefused(PeerLost):
    """The peer is there, but its message cannot be used."""


class MembersChanged(PeerLost):
    """A node was lost, maybe another than the one waited for, since Losses: all who are left begin again."""


class CutOff(PeerLost):
    """The links to the peer are cut, and this node trains without it until they are back: no message is missed."""


class LeaveNow(Exception):
    """The run's time is over and links are cut: leave in the middle of an exchange, with the last step made.

    `step`: the number under which all nodes leave it.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"the run ends with step {step}")
        self.step = step


class Met(NamedTuple):
    """The step and the exchange rounds, by player, with which all nodes continue after a meeting."""

    step: int
    rounds: tuple[int, ...]


class Effect(Generic[T]):
    """Base of the effects: awaiting one hands it to the fabric and returns the fabric's answer."""

    def __await__(self) -> Generator[Effect[T], Any, T]:
        answer: T = yield self
        return answer


@dataclass(frozen=True)
class Compute(Effect[T]):
    """Run `work` here and now, padded to that share of the configured pace; it counts as computing."""

    work: Callable[[], T]
    share: float = 1.0


@dataclass(frozen=True)
class BeginRound(Effect[None]):
    """A round of gossip begins on a graph that changes: its messages wait for their turn (see
    gannet.node.exchange.turn_rule).

    `sources`: the peers that send to this node in it. `after`: the peers that must be ready for it before this node
    sends.
    """

    number: int
    sources: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Send(Effect[None]):
    """Hand a message's payload to the network. Returns once the fabric has room for it, not when it arrived.

    `last` says that no further segment of this round goes to this peer, so that the stream may close.
    """

    to: int
    tag: Tag
    payload: memoryview
    last: bool = True


class Arrival(NamedTuple):
    """Something received without waiting for a named peer: a segment, or the news that its sender is gone."""

    source: int
    tag: Tag
    outcome: memoryview | PeerLost


@dataclass(frozen=True)
class Collect(Effect[list[Arrival]]):
    """Take all that has arrived from any peer, in order of arrival: for asynchronous algorithms.

    With `wait`, waits until something has arrived; after the round's deadline such a wait returns nothing.
    """

    wait: bool = False


@dataclass(frozen=True)
class Receive(Effect[memoryview]):
    """Wait for a message. Raises PeerLost when the peer is gone, refused, or past the round's deadline."""

    source: int
    tag: Tag


@dataclass(frozen=True)
class ReceiveFirst(Effect["tuple[int, memoryview | PeerLost]"]):
    """Wait for the first of several messages to arrive: its index, and its payload or the reason why it cannot come.

    If several have arrived, the first in order. Each has its own deadline, counted from when it was first requested;
    a message once requested must be requested until it is answered.
    """

    wanted: tuple[Receive, ...]


@dataclass(frozen=True)
class Losses(Effect[tuple[int, ...]]):
    """The nodes that are lost or have left, in the order in which all nodes learn of it.

    From then on a further loss ends every wait, at once, by MembersChanged, until it is asked for again.
    """


@dataclass(frozen=True)
class AllReduce(Effect["tuple[Tensor, Tensor | None]"]):
    """Have a collective that is not of this project average a gradient over all nodes (see
    gannet.node.process.torch_ddp).

    Fields as in a Gradient; returns the means of `field` and `buffers`. Raises CollectiveFailed when a node is
    missing.
    """

    field: Tensor
    buffers: Tensor | None
    active: tuple[str, ...]


@dataclass(frozen=True)
class Meet(Effect[Met]):
    """Stop between two steps until all nodes have, so that a node can come in (see gannet.node.process.meeting).

    `step`: the last step that this node has made; `rounds`: its last exchange rounds, by player.
    """

    step: int
    rounds: tuple[int, ...]
