"""What a node's plan says of a shared link: one bottleneck that several pairs' packets pass. Plain dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class SharedLimit:
    """A shared link, as one of the nodes at its ends sees it.

    `number`: of the link, the same in all nodes' plans. `peers`: the addresses whose packets to (or from) this node
    pass it. `pairs`: how many pairs it has in all. `at`: where it is limited: at the one node that all pairs end at
    (receiver) or begin at (sender), or in the core, where all nodes' links meet (gannet.netem.links.pairs.core). Its
    buffer holds bytes, or where given packets.
    """

    number: int
    rate_bps: int
    buffer_bytes: int
    peers: tuple[str, ...]
    pairs: int
    at: Literal["receiver", "sender", "core"]
    buffer_packets: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SharedLimit:
        """The inverse of dataclasses.asdict; TypeError on unknown or missing fields."""
        return cls(**{**data, "peers": tuple(data["peers"])})
