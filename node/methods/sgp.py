"""sgp"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class SgpConfig(Settings):
    """Stochastic Gradient Push: push-sum along the edges of any topology, whose weights do not count."""

    name: Literal["sgp"]
