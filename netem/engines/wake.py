"""Wakes a queue: a qdisc whose rate has been raised notices it when it gets its next packet, or when it would have
sent by the old rate.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from struct import pack

# A multicast address for documentation (RFC 6676), so that no host listens or answers, and no neighbour is asked.
_NO_HOST = ("233.252.0.1", 9)


def wake(device: str, address: str) -> None:
    """Send one empty datagram through a device; an IFB drops it, on a node's interface it reaches its peers' kernels.

    `address`: this node's. A full queue, or a device that is gone, is no error.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        own = socket.inet_aton(address)
        index = socket.if_nametoindex(device)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, pack("=4s4si", bytes(4), own, index))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.sendto(b"", _NO_HOST)
