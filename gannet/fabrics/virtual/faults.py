"""Faults that strike a run on the virtual fabric: at an exact virtual time, or as a node awaits something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gannet.node.exchange.mailbox import Header

Damage = Callable[[Header, memoryview], tuple[Header, memoryview]]


@dataclass(frozen=True)
class Kill:
    """A fault: node `rank` ends at virtual time `at_s`; its peers learn of it `notice_s` later."""

    rank: int
    at_s: float
    notice_s: float = 0.0


@dataclass(frozen=True)
class Return:
    """Node `rank`, which was lost, comes back at virtual time `at_s`; where it is not lost, nothing happens."""

    rank: int
    at_s: float


@dataclass(frozen=True)
class Pause:
    """A fault: node `rank` stands still for `for_s` seconds from `at_s` on, as a process that is stopped: it computes
    nothing, takes no message and notices no deadline until then. Its messages in flight arrive.
    """

    rank: int
    at_s: float
    for_s: float


@dataclass(frozen=True)
class Corrupt:
    """A fault: from `at_s` on, every message from `rank` arrives changed by `damage`."""

    rank: int
    at_s: float
    damage: Damage


@dataclass(frozen=True)
class OneMessage:
    """A fault of one message: the first from `source` to `to` that is sent at `at_s` or later."""

    source: int
    to: int
    at_s: float


@dataclass(frozen=True)
class Drop(OneMessage):
    """The stream breaks before the message has arrived. `again_s` later the sender sends it again, marked as such;
    None: never.
    """

    again_s: float | None


@dataclass(frozen=True)
class Duplicate(OneMessage):
    """The message arrives a second time, `later_s` after the first. `again`: marked as sent again, as after a broken
    stream; else it is replayed as it was.
    """

    later_s: float
    again: bool


@dataclass(frozen=True)
class Hold(OneMessage):
    """The message arrives `later_s` late; those behind it do not wait for it."""

    later_s: float


@dataclass(frozen=True)
class DamageOne(OneMessage):
    """The message arrives changed by `damage`."""

    damage: Damage


@dataclass(frozen=True)
class AtAwait:
    """`fault` strikes as node `rank` awaits its effect `number`, counted from 1, before the effect is carried out.

    The fault's own `at_s` is then that moment. A node that comes back counts from 1.
    """

    rank: int
    number: int
    fault: Kill | Pause


Timed = Kill | Return | Pause | Corrupt | OneMessage
Fault = Timed | AtAwait
