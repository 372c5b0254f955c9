"""Gossip-PGA: settings, capabilities and traffic."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.methods.base import Method
from gannet.node.methods.formulas import Collective, FlatVector, Group, Traffic, added, gossip_traffic


class GossipPgaConfig(Method):
    """Gossip-PGA: gossip at every step, and a global average instead at every `global_every`-th; null for never."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.gossip_pga:gossip_pga"
    not_in_islands: ClassVar[str] = "averages over all nodes now and then"
    not_returning: ClassVar[str] = ""
    takes_turns: ClassVar[bool] = True
    mixes_by_rule: ClassVar[bool] = True
    moves_by: ClassVar[Literal["", "adam", "oadam"]] = "oadam"

    name: Literal["gossip-pga"]
    global_every: PositiveInt | None = 10
    collective: Collective = "ring"

    @property
    def averages(self) -> Collective | None:
        return self.collective if self.global_every is not None else None

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        if self.global_every is None:
            return {}
        return {"global_every": (self.global_every, "all nodes average")}

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """That of all its H steps: H − 1 gossips and a global average, whose last hop is sure to be waited for; the
        others may overlap.
        """
        average = super().traffic(group, vector)
        if self.global_every is None or self.global_every == 1:
            return average
        size, rounds = self.copy_bytes(group, vector), self.global_every - 1
        between = gossip_traffic(group, average.edges, size, rounds, self.global_every, again=False)
        # The node that begins the average last: a server sends all its means after that, a ring's node all its
        # segments.
        last = (min if average.around else max)(average.sent)
        return replace(
            between,
            sent=added(average.sent, between.sent),
            received=added(average.received, between.received),
            hops=between.hops + 1,
            in_turn=(between.in_turn[0] + last, between.in_turn[1] + min(average.received)),
            changing=True,
        )
