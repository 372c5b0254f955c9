"""gossip_pga"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class GossipPgaConfig(Settings):
    """Gossip-PGA: gossip at every step, and a global average instead at every `global_every`-th; null for never."""

    name: Literal["gossip-pga"]
    global_every: PositiveInt | None = 10
    collective: Literal["server", "ring"] = "ring"
