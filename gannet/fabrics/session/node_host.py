"""What a session needs from the fabric that it runs on: nodes, their link agents and their last words."""

from __future__ import annotations

from typing import Any, Protocol

from gannet.fabrics.job import Job, LinkAgent, NodeInterface, Sink
from gannet.fabrics.session.controller import Controller


class NodeHost(Protocol):
    """What the nodes of a run stand on. Ranks index `agents` and `interfaces` once `open` has returned."""

    agents: list[LinkAgent]
    interfaces: list[NodeInterface]
    serve_at: str  # host:port of the controller on the management network; port 0: any
    logs: str  # where to look when a node fails, for messages

    def open(self, job: Job, sink: Sink) -> dict[str, Any]:
        """Have `job.world` interfaces with an agent each; returns what to record of the environment."""
        ...

    def controller(self, job: Job) -> Controller:
        """The controller that this host's nodes can join; the session starts and stops it."""
        ...

    def populate(self, address: str, sink: Sink) -> None:
        """Bring the nodes to life, to join the controller at `address`."""
        ...

    def ended(self) -> list[tuple[int, str]]:
        """Nodes whose process has ended badly, and how."""
        ...

    def how_ended(self, rank: int) -> str:
        """With which status or signal the process of a node ended whose connection broke; "" if that is not known."""
        ...

    def last_words(self, rank: int) -> str:
        """The last lines of a node's log, or how to read them."""
        ...

    def empty(self) -> bool:
        """Whether all nodes of this run have left."""
        ...

    def close(self) -> None:
        """Take down what `open` and `populate` made; never raises for what is gone already."""
        ...


class Failed(Exception):
    """The run cannot go on; the text is the outcome's reason."""
