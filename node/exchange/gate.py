"""Who may send to a node: its run's members, each from its own address and over a few streams at a time.

A rank is bound to the host of its mesh address. Nobody on the mesh can hold a TCP connection from another node's
address, so a message that names another rank than its sender's is refused before its bytes are read. What nodes of
one host send each other (tests on the loopback) is told apart by nothing but their word.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address


class Gate:
    """A node's knowledge of where its peers are; `streams`: how many each may have open at a time."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._hosts: list[str] = []
        self._known = asyncio.Event()
        self._open: Counter[str] = Counter()

    def admit(self, addresses: Sequence[str]) -> None:
        """The members' mesh addresses (IP:port), by rank, empty for one that is lost; until then
        callers wait.
        """
        self._hosts = [host_of(address) if address else "" for address in addresses]
        self._known.set()

    def move(self, rank: int, address: str) -> None:
        """That member is at this address from now on."""
        self._hosts[rank] = host_of(address)

    async def known(self) -> None:
        """Wait until the members are known."""
        await self._known.wait()

    def is_from(self, host: str, rank: int) -> bool:
        """Whether a connection from that host may speak for that rank."""
        return bool(host) and 0 <= rank < len(self._hosts) and self._hosts[rank] == host

    @contextmanager
    def stream(self, host: str) -> Iterator[bool]:
        """Count a stream from that host; whether it may be open. A stranger's may, for it to be told and reported."""
        self._open[host] += 1
        try:
            yield self._open[host] <= self._streams * max(1, self._hosts.count(host))
        finally:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]


def host_of(address: str) -> str:
    """The host of an IP:port, in the one form in which it is compared. Raises ValueError for a name."""
    return str(ip_address(address.rpartition(":")[0].strip("[]")))


def caller(peer: str) -> str:
    """The host of a caller as gRPC names it: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711. Empty where it is none."""
    family, _, address = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    return host_of(address.replace("%5B", "[").replace("%5D", "]"))
