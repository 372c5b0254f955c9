"""The interface that a session needs from its fabric: nodes, their link agents and their last output."""

from __future__ import annotations

from typing import Any, Protocol

from gannet.fabrics.job import Job, LinkAgent, NodeInterface, Sink
from gannet.fabrics.links.core_links import CoreLinks
from gannet.fabrics.session.controller import Controller


class NodeHost(Protocol):
    """Provides the nodes of a run. Ranks index `agents` and `interfaces` once `open` has returned."""

    agents: list[LinkAgent]
    interfaces: list[NodeInterface]
    core: CoreLinks | None  # where all nodes' links meet, once `open` has returned; None: out of reach
    serve_at: str  # where nodes find the controller, off the shaped network: host:port (port 0: any) or unix:/path
    logs: str  # where to look when a node fails, for messages

    def open(self, job: Job, sink: Sink) -> dict[str, Any]:
        """Provide `job.world` interfaces with an agent each; returns facts to record of the environment."""
        ...

    def controller(self, job: Job) -> Controller:
        """The controller that this host's nodes can join; the session starts and stops it."""
        ...

    def populate(self, address: str, sink: Sink) -> None:
        """Start the nodes that are there at the beginning, which join the controller at `address`."""
        ...

    def revive(self, rank: int) -> None:
        """Start a lost node again, or one that joins later. Raises Failed where it cannot be; does nothing where it
        comes by itself.
        """
        ...

    def ended(self) -> list[tuple[int, str]]:
        """Nodes whose process has failed, and how it ended."""
        ...

    def how_ended(self, rank: int) -> str:
        """The exit status or signal of a node whose connection broke, in words; "" if it is not known."""
        ...

    def last_words(self, rank: int) -> str:
        """The last lines of a node's log, or how to read them."""
        ...

    def empty(self) -> bool:
        """Whether all nodes of this run have left."""
        ...

    def close(self) -> None:
        """Take down what `open` and `populate` made; what is gone already is no error."""
        ...


class Failed(Exception):
    """The run cannot continue; the text is the outcome's reason."""
