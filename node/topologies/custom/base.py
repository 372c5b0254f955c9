"""The base class of a topology of one's own; docs/own-topology.md walks through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gannet.node.settings import NoSettings, Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Graph:
    """Who mixes with whom, and with which weights, in each round. Write `matrix`, and `period` where rounds differ.

    Every node builds its own, from the same settings and number of nodes, and all must come to the same weights.
    """

    period: int = 1
    """Rounds until the graph repeats, 1 where it stays the same. May be a property, or be set in __init__."""

    Settings: ClassVar[type[Settings]] = NoSettings
    """Fields that a spec may give as `settings`; read them as self.settings.<field>."""

    def __init__(self, settings: Mapping[str, Any], world: int) -> None:
        self.settings: Any = self.Settings.model_validate(dict(settings))
        self.world = world
        """The number of nodes, 1 or more."""

    def matrix(self, number: int) -> ArrayLike:
        """W of the round `number`, from 1 to `period`, shape (world, world): row i is what node i gives each node.

        Rows and columns sum to 1, which keeps the nodes' average. Node i receives from j where W[i, j] is above 0.
        """
        raise NotImplementedError(f"{type(self).__name__} has no weights: define matrix(self, number)")
