"""PowerGossip: settings, capabilities and traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.methods.base import Method
from gannet.node.methods.formulas import FlatVector, Group, Traffic, gossip_traffic

if TYPE_CHECKING:
    from gannet.node.codecs.low_rank import LowRank


class PowerGossipConfig(Method):
    """PowerGossip: gossip of the low-rank part of neighbours' differences; nothing to tune.

    `rank`: number of directions of a product. `iterations`: products a step, from the right and the left in turn.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.power_gossip:power_gossip"
    not_in_islands: ClassVar[str] = (
        "keeps a basis for each neighbour, which stays wrong once it has missed a difference"
    )
    symmetric_graph: ClassVar[bool] = True

    name: Literal["power-gossip"]
    rank: PositiveInt = 1
    iterations: PositiveInt = 2

    def _shapes(self, vector: FlatVector) -> LowRank:
        from gannet.node.codecs.low_rank import LowRank  # imports torch

        return LowRank(vector.tensors, self.rank)

    def copy_bytes(self, group: Group, vector: FlatVector) -> int:
        """A step's products, and the values sent uncompressed."""
        shapes = self._shapes(vector)
        # Where products are odd in number, a step's last comes from the right one time and from the left the next.
        both = group.codec.wire_bytes(self.iterations * (shapes.from_right + shapes.from_left))
        return both // 2 + 4 * shapes.rest

    def largest_payload(self, group: Group, vector: FlatVector) -> int:
        return max(super().largest_payload(group, vector), 4 * self._shapes(vector).rest)

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """Gossip in which one product waits for the other."""
        size, transfers = self.copy_bytes(group, vector), self.iterations if self._shapes(vector).matrices else 1
        return gossip_traffic(group, self.edges(group), size, 1, 1, transfers=transfers)
