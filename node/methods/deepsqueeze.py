"""DeepSqueeze: settings, capabilities and traffic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gannet.node.methods.base import Carries, Method


class DeepSqueezeConfig(Method):
    """DeepSqueeze: gossip of compressed models with an error memory; `eta` is the consensus step η."""

    coroutine: ClassVar[str] = "gannet.node.algorithms.deepsqueeze:deepsqueeze"
    symmetric_graph: ClassVar[bool] = True
    takes_turns: ClassVar[bool] = True
    not_in_islands: ClassVar[str] = ""
    not_returning: ClassVar[str] = ""

    name: Literal["deepsqueeze"]
    eta: Annotated[float, Field(gt=0, le=1)] = 0.1

    @property
    def carries(self) -> Carries:
        return "compressed"
