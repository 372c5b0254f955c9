"""DP-OAdam: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.methods.base import Method


class DpOadamConfig(Method):
    """Decentralized parallel OAdam: gossip the parameters after the optimistic step.

    `every`: local steps between exchanges. `rounds`: gossip rounds an exchange (t). `overlap`: mix the
    parameters while the next gradient is computed from the unmixed ones (the D-PSGD order).
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.dp_oadam:dp_oadam"
    not_returning: ClassVar[str] = ""
    not_in_islands: ClassVar[str] = ""
    takes_turns: ClassVar[bool] = True
    mixes_by_rule: ClassVar[bool] = True
    moves_by: ClassVar[Literal["", "adam", "oadam"]] = "oadam"

    name: Literal["dp-oadam"]
    every: PositiveInt = 1
    rounds: PositiveInt = 1
    overlap: bool = False

    @property
    def exchange_every(self) -> int:
        return self.every

    @property
    def gossip_rounds(self) -> int:
        return self.rounds

    @property
    def overlaps(self) -> bool:
        return self.overlap
