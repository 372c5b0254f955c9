"""local"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class LocalConfig(Settings):
    """Every node on its own: no exchange. `method`: which optimizer; adam is the plain one, of KDGAN's paper."""

    name: Literal["local"]
    method: Literal["oadam", "optimistic-sg", "adam"] = "oadam"
