"""Where a node lives, and what it says of itself first."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gannet.node.wire import control_pb2


@dataclass(frozen=True)
class Place:
    """Where a node lives: the controller it joins (host:port or unix:/path), the addresses it serves on (host:port).

    `host` names its container to a controller that gives ranks to containers.
    """

    controller: str
    mesh: str
    metrics: str
    token: str
    wanted_rank: int = -1
    mesh_device: str | None = None
    host: str = ""

    def hello(self, certificate_request: bytes) -> control_pb2.Hello:
        """The first message to the controller."""
        return control_pb2.Hello(
            token=self.token,
            wanted_rank=self.wanted_rank,
            pid=os.getpid(),
            host=self.host,
            certificate_request=certificate_request,
        )
