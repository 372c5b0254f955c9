"""Who may send to a node: its run's members, each known by its certificate or its address, a few streams at a time,
and so many calls a second.

With TLS a rank is bound to the certificate that its process has from the run's controller. Without it, a rank is
bound to the host of its mesh address: where no node can hold a TCP connection from another's address, a message that
names another rank than its sender's is refused before its bytes are read. What nodes of one host send each other
(tests on the loopback) is then told apart by nothing but their word.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from gannet.node.admission.call_rate import PeerRates
from gannet.node.exchange.tls import rank_of

# Calls a second, and at once. A member makes one a round and player, and rounds take more than a millisecond; a
# stranger makes none.
MEMBERS_RATE, MEMBERS_BURST = 1000.0, 2000.0
STRANGERS_RATE, STRANGERS_BURST = 20.0, 200.0


class Gate:
    """A node's knowledge of its peers; `streams`: how many each may have open at a time; `players` of a run.

    A caller is the name in its certificate where connections are encrypted, and the host it calls from otherwise.
    """

    def __init__(self, streams: int, encrypted: bool = False, players: int = 1) -> None:
        self._streams, self._encrypted = streams, encrypted
        self._members = PeerRates(players * MEMBERS_RATE, players * MEMBERS_BURST)
        self._strangers = PeerRates(STRANGERS_RATE, STRANGERS_BURST)
        self._callers: list[str] = []  # by rank
        self._known = asyncio.Event()
        self._open: Counter[str] = Counter()

    def admit(self, addresses: Sequence[str], names: Sequence[str] = ()) -> None:
        """The members' mesh addresses (IP:port) and the names of their certificates, by rank, empty for one that is
        lost; until then callers wait.
        """
        whose = names if self._encrypted else [host_of(address) if address else "" for address in addresses]
        self._callers = list(whose)
        self._known.set()

    def move(self, rank: int, address: str, name: str = "") -> None:
        """That member is at this address, with that certificate, from now on."""
        self._callers[rank] = name if self._encrypted else host_of(address)

    async def known(self) -> None:
        """Wait until the members are known."""
        await self._known.wait()

    def caller(self, context: Any) -> str:
        """The caller of a gRPC call; empty where it has neither a name nor a host."""
        if not self._encrypted:
            return host_of_peer(context.peer())
        names = [each.decode(errors="replace") for each in context.auth_context().get("peer_dns", ())]
        return names[0] if len(names) == 1 else ""

    def is_from(self, caller: str, rank: int) -> bool:
        """Whether that caller may speak for that rank."""
        return bool(caller) and 0 <= rank < len(self._callers) and self._callers[rank] == caller

    def why_not(self, caller: str, rank: int) -> str:
        """Why that caller may not, in words."""
        if not self._encrypted:
            return f"rank {rank} is not at {caller or 'an address'}"
        whose = rank_of(caller)
        if whose is None:
            return f"rank {rank} has another certificate"
        if whose == rank:
            return f"the certificate is not rank {rank}'s present one: it belongs to another process"
        return f"the certificate is rank {whose}'s, not rank {rank}'s"

    def takes(self, caller: str) -> bool:
        """Whether one more call of this caller's is taken now, or it calls too often."""
        shared_by = self._callers.count(caller)
        return self._members.take(caller, shared_by) if shared_by else self._strangers.take(caller)

    @contextmanager
    def stream(self, caller: str) -> Iterator[bool]:
        """Count a caller's stream; whether it may be open. A stranger's may, for it to be told and reported."""
        self._open[caller] += 1
        try:
            yield self._open[caller] <= self._streams * max(1, self._callers.count(caller))
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


def host_of(address: str) -> str:
    """The host of an IP:port, in the one form in which it is compared. Raises ValueError for a name."""
    return str(ip_address(address.rpartition(":")[0].strip("[]")))


def host_of_peer(peer: str) -> str:
    """The host of a caller as gRPC names it: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711. Empty where it is none."""
    family, _, address = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    return host_of(address.replace("%5B", "[").replace("%5D", "]"))
