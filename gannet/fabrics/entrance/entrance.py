"""Where a gRPC server is reached: as it is, or behind a door with mutual TLS."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from gannet.fabrics.entrance.door import Door, Limits
from gannet.node.admission.identity import Identity


class Entrance:
    """The addresses of one service. With an `identity`, those on a network are reached by TLS, from callers with a
    certificate of `role` only; sockets that are files never are.
    """

    def __init__(self, role: str = "", identity: Identity | None = None, limits: Limits | None = None) -> None:
        self._role, self._identity, self._limits = role, identity, limits
        self._doors: list[Door] = []
        self._folder: Path | None = None

    def add(self, server: Any, address: str) -> str:
        """Have a server reached at host:port (port 0: any) or unix:/path, before it starts; returns the address with
        its port. Raises RuntimeError or OSError where it cannot be.
        """
        if address.startswith("unix:") or self._identity is None:
            port = server.add_insecure_port(address)
            return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gannet-"))  # of this user alone
        behind = self._folder / f"door-{len(self._doors)}"
        server.add_insecure_port(f"unix:{behind}")
        door = Door(self._identity, self._role, behind, self._limits)
        served = door.open(address)
        self._doors.append(door)
        return served

    def close(self) -> None:
        """Close its doors; the server itself is its owner's to stop."""
        for door in self._doors:
            door.close()
        self._doors.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
