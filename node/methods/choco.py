"""choco"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class ChocoConfig(Settings):
    """CHOCO-SGD: gossip of compressed differences over a static graph with symmetric weights.

    `gamma`: the consensus step γ. 1 is gossip with an exact codec; the coarser the codec, the smaller it must be:
    about 0.5 for qsgd-4bit, 0.05 for top-k that keeps a hundredth.
    """

    name: Literal["choco"]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
