"""Limits shared links in the core: in the network namespace of the bridge that all nodes' links meet at.

The kernel does all of it, so that it is the same for every engine of the nodes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from gannet.netem.engines import netlink
from gannet.netem.engines.base import run, run_all
from gannet.netem.links.pairs.core import CoreLink
from gannet.netem.shaping.commands import Command
from gannet.netem.shaping.core import CoreState, clear_core_commands, core_commands, core_ifb
from gannet.netem.shaping.lines import BUCKET, UNLIMITED_BPS


class Core:
    """The shared links of the bridge in this network namespace."""

    def __init__(self) -> None:
        self._built: CoreState | None = None  # None: unknown
        self._ports: set[str] = set()

    def apply(self, links: Sequence[CoreLink]) -> None:
        """Bring the core to these links, idempotently; what does not read back as it should is built again.

        EngineError where that fails; the next call then builds all of it again.
        """
        self._bring(links)
        if self.read_back()["differences"]:
            self._built = None
            self._bring(links)

    def _bring(self, links: Sequence[CoreLink]) -> None:
        before, self._built = self._built, None
        ports = {port for link in links for port in link.targets}
        if before is None:
            run_all(clear_core_commands(_devices(), self._ports | ports))
            before = CoreState()
        self._ports |= ports
        commands, after = core_commands(links, before)
        run_all(commands)
        self._built = after

    def clear(self) -> None:
        """Remove everything that was applied."""
        if self._ports:
            run_all(clear_core_commands(_devices(), self._ports))
        self._built, self._ports = None, set()

    def read_back(self) -> dict[str, Any]:
        """`differences` from what was applied, in words, and by link its `rate_bps`, and the packets `dropped` and
        bytes waiting (`backlog_bytes`) in its buffer.
        """
        built = self._built or CoreState()
        found: dict[str, Any] = {}
        wrong = []
        filters = {port: _redirects(port) for port in sorted(built.ports)}
        for number, link in sorted(built.links.items()):
            name, bucket = core_ifb(number), _bucket(core_ifb(number))
            missing = [port for port in link.targets if name not in filters[port]]
            if bucket is None:
                wrong.append(f"shared link {number}: its rate limit is missing")
                continue
            found[str(number)] = bucket
            if bucket["rate_bps"] != link.rate_bps:
                wrong.append(f"shared link {number}: {bucket['rate_bps']} bit/s, not {link.rate_bps}")
            if missing:
                wrong.append(f"shared link {number}: nothing leads to it at {' '.join(missing)}")
        return {"differences": wrong, "links": found}


def _devices() -> list[str]:
    """Those of this network namespace, which /sys may not show."""
    return [name for _, name in socket.if_nameindex()]


def _redirects(port: str) -> set[str]:
    """The devices that filters of a port send packets through."""
    shown = run(Command(("tc", "filter", "show", "dev", port, "parent", "ffff:"), may_fail=True))
    return {line.split("to device ")[1].split(")")[0] for line in shown.splitlines() if "to device " in line}


def _bucket(ifb: str) -> dict[str, Any] | None:
    root = [node for node in netlink.qdiscs(ifb) if node.handle == BUCKET << 16 and node.kind == "htb"]
    rates = [node for node in netlink.classes(ifb) if node.handle == BUCKET << 16 | 1]
    if not root or not rates:
        return None
    rate_bps: int | None = netlink.class_rate_bps(rates[0])
    return {
        "rate_bps": None if rate_bps == UNLIMITED_BPS else rate_bps,
        "dropped": root[0].dropped,
        "backlog_bytes": root[0].backlog_bytes,
    }
