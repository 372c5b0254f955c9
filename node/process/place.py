"""Where a node lives, and what it says of itself first."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from gannet.node.admission.identity import Identity
from gannet.node.wire import control_pb2


@dataclass(frozen=True)
class Place:
    """Where a node lives: the controller it joins (host:port or unix:/path), the addresses it serves on (host:port).

    `credential`: what the controller knows this node, and so its rank, by. `identity`: for mutual TLS with it.
    """

    controller: str
    mesh: str
    metrics: str
    credential: str = field(repr=False)
    mesh_device: str | None = None
    identity: Identity | None = None

    def hello(self, certificate_request: bytes) -> control_pb2.Hello:
        """The first message to the controller."""
        return control_pb2.Hello(pid=os.getpid(), certificate_request=certificate_request)
