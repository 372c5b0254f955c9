"""dposg"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class DposgConfig(Settings):
    """DPOSG, the paper's two lines: η is the optimizer's learning rate, t is `rounds` of gossip."""

    name: Literal["dposg"]
    rounds: PositiveInt = 1
