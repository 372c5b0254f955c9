"""A Byzantine node: it trains as the others do, and sends something else than it has (see faults.Corrupt)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gannet.fabrics.virtual.faults import Corrupt
from gannet.node.exchange.mailbox import Header

Lie = Callable[[np.ndarray], np.ndarray]  # from the values that a message has to those that it is to have

LIES: dict[str, Lie] = {
    "times 1000": lambda x: 1000 * x,
    "1e30": lambda x: np.full_like(x, 1e30),
    "sign flipped": lambda x: -x,
    "random": lambda x: np.random.default_rng(zlib.crc32(x.tobytes())).normal(0, 10, x.shape),
    "a constant": lambda x: np.full_like(x, 3.0),  # no outlier in size: where it pulls to is wrong
}


def adversary(rank: int, lie: Lie, at_s: float = 0.0) -> Corrupt:
    """The fault by which node `rank` sends `lie` of what it has, in well-formed messages of codec fp32."""

    def damage(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
        told = lie(np.frombuffer(payload, dtype="<f4")).astype("<f4").tobytes()
        return replace(header, crc32=zlib.crc32(told)), memoryview(told)

    return Corrupt(rank, at_s, damage)
