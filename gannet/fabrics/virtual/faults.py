"""Faults that strike a run on the virtual fabric, at an exact virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gannet.node.exchange.mailbox import Header


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
class Corrupt:
    """A fault: from `at_s` on, every message from `rank` arrives changed by `damage`."""

    rank: int
    at_s: float
    damage: Callable[[Header, memoryview], tuple[Header, memoryview]]


Fault = Kill | Return | Corrupt
