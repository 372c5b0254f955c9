"""Ports that stay free until the program which is to have them listens."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from random import SystemRandom

_SEARCHED = 8000


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that no process has now, and that the kernel gives to none that does not ask for them.

    Another worker of pytest-xdist takes others.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    own = [port for port in range(max(1024, lowest - _SEARCHED), lowest) if port % 16 == worker]
    found: list[int] = []
    for port in SystemRandom().sample(own, len(own)):
        with socket.socket() as trying:
            try:
                trying.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == number:
            return found
    raise RuntimeError(f"of ports {own[:1]} to {own[-1:]}, {number} are not free")
