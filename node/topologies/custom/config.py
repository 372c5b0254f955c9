"""Settings of a topology that a user brings: a Python file named in the spec, or an installed entry point."""

from __future__ import annotations

from typing import ClassVar, Literal

from gannet.node.plugins import PythonSource
from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.weights import Schedule


class PythonTopologyConfig(PythonSource, TopologySetting):
    """A topology of one's own. See docs/own-topology.md."""

    what: ClassVar[str] = "topology"
    group: ClassVar[str] = "gannet.topologies"
    shipped: ClassVar[bool] = False

    name: Literal["python"]

    def schedule(self, world: int) -> Schedule:
        """The rounds that the user's code gives, all of them checked. Raises PluginError."""
        from gannet.node.topologies.custom.load import own_schedule  # late: settings are read without numpy

        return own_schedule(self, world)
