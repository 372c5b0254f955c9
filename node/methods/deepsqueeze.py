"""deepsqueeze"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class DeepSqueezeConfig(Settings):
    """DeepSqueeze: gossip of compressed models with an error memory; `eta` is the consensus step η."""

    name: Literal["deepsqueeze"]
    eta: Annotated[float, Field(gt=0, le=1)] = 0.1
