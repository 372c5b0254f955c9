"""ad_psgd"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt

from gannet.node.tasks.config import Settings

if TYPE_CHECKING:
    pass


class AdPsgdConfig(Settings):
    """AD-PSGD: asynchronous pairwise averaging along the edges of an undirected topology, whose weights do not count.

    `staleness`: a node waits when a neighbour has owed it an answer for more than so many of its steps; null: never.
    """

    name: Literal["ad-psgd"]
    staleness: NonNegativeInt | None = None
