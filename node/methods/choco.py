"""CHOCO-SGD: settings, capabilities and traffic."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gannet.node.methods.base import Carries, Method


class ChocoConfig(Method):
    """CHOCO-SGD: gossip of compressed differences over a static graph with symmetric weights.

    `gamma`: the consensus step γ. 1 is gossip with an exact codec; the coarser the codec, the smaller it must be:
    about 0.5 for qsgd-4bit, 0.05 for top-k that keeps a hundredth.
    """

    coroutine: ClassVar[str] = "gannet.node.algorithms.choco:choco"
    not_in_islands: ClassVar[str] = (
        "keeps a replica of each neighbour, which stays wrong once it has missed a difference"
    )
    static_graph: ClassVar[str] = "keeps a replica of each neighbour"
    symmetric_graph: ClassVar[bool] = True

    name: Literal["choco"]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def carries(self) -> Carries:
        return "compressed"
