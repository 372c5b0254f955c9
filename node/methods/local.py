"""Local training: settings, capabilities and traffic."""

from __future__ import annotations

from typing import ClassVar, Literal

from gannet.node.methods.base import Carries, Method


class LocalConfig(Method):
    """Every node on its own: no exchange. `method`: which optimizer; adam is the plain one, of KDGAN's paper."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.local:local"
    not_returning: ClassVar[str] = ""
    not_in_islands: ClassVar[str] = ""
    exchanges: ClassVar[bool] = False
    gossips: ClassVar[bool] = False

    name: Literal["local"]
    method: Literal["oadam", "optimistic-sg", "adam"] = "oadam"

    @property
    def carries(self) -> Carries:
        return "nothing"
