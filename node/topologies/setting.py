"""What every topology declares of itself: its name and parameters in a spec, and its rounds over a number of nodes.

Importing this module imports neither numpy nor torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from gannet.node.settings import Settings
from gannet.node.topologies.weights import Adjacency, Periodic, Schedule, metropolis_hastings


class TopologySetting(Settings):
    """What a spec's `topology:` holds; its fields besides the name are the topology's parameters."""

    shipped: ClassVar[bool] = True
    """Whether it is part of this package, so that asking for its rounds runs no code of a user's."""

    name: str

    @abstractmethod
    def schedule(self, world: int) -> Schedule:
        """Its rounds over `world` nodes, 1 or more. Raises ValueError where it has none for that number."""

    @property
    def own_size(self) -> int | None:
        """The number of nodes, where the topology itself decides it."""
        return None

    def parameters(self) -> dict[str, Any]:
        """What is set besides the name, as people should see it."""
        return {key: value for key, value in self if key != "name"}

    def __str__(self) -> str:
        words = ", ".join(f"{key} {value}" for key, value in self.parameters().items())
        return f"{self.name} ({words})" if words else self.name


class UndirectedTopology(TopologySetting):
    """A static undirected graph with Metropolis-Hastings weights."""

    @abstractmethod
    def graph(self, world: int) -> Adjacency:
        """Each node's neighbours. Raises ValueError where there is no such graph over `world` nodes."""

    def schedule(self, world: int) -> Schedule:
        return Periodic([metropolis_hastings(self.graph(world))])
