"""DPOSG: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from gannet.node.methods.base import Method


class DposgConfig(Method):
    """DPOSG, the paper's two lines: η is the optimizer's learning rate, t is `rounds` of gossip."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.dposg:dposg"
    not_returning: ClassVar[str] = ""
    not_in_islands: ClassVar[str] = ""
    takes_turns: ClassVar[bool] = True
    mixes_by_rule: ClassVar[bool] = True

    name: Literal["dposg"]
    rounds: PositiveInt = 1

    @property
    def gossip_rounds(self) -> int:
        return self.rounds
