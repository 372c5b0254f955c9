"""What a device has sent, as it crosses the wire: a header for each frame, as the kernel's queues count it.

A device's own counter (/proc/net/dev) counts one header for a packet of many segments (GSO), which it takes whole: on
fast links up to 40 frames. Formats: include/uapi/linux/rtnetlink.h and gen_stats.h.
"""

from __future__ import annotations

import socket
from pathlib import Path
from struct import Struct

_GET_QDISC, _NEW_QDISC, _REQUEST, _DUMP = 38, 36, 1, 0x300
_ERROR, _DONE = 2, 3
_HEADER = Struct("=IHHII")
_TC = Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, info
_ATTRIBUTE = Struct("=HH")
_BYTES = Struct("=Q")
_ROOT, _NO_HANDLE = 0xFFFFFFFF, 0  # a device without queues shows one without a handle
_STATISTICS, _BASIC = 7, 1  # TCA_STATS2, TCA_STATS_BASIC


class SentBytes:
    """Counts from when it is made, and continues when the device's queues are rebuilt and begin at zero."""

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._total = 0
        self._seen = self._count()

    def read(self) -> int:
        """Bytes sent, without a device none; OSError where the device does not exist."""
        (queued, count), (was_queued, before) = self._count(), self._seen
        if queued != was_queued:  # queues that have just been made; or none any more, which says nothing of before
            before = 0 if queued else count
        self._total += count - before if count >= before else count
        self._seen = queued, count
        return self._total

    def _count(self) -> tuple[bool, int]:
        """Whether the device has a queue that counts, and bytes."""
        if self._device is None:
            return False, 0
        queued = _root_queue_bytes(socket.if_nametoindex(self._device))
        return (False, _device_bytes(self._device)) if queued is None else (True, queued)


def _device_bytes(device: str) -> int:
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == device:
            return int(counters.split()[8])
    raise OSError(f"no network device {device!r} in this namespace to count bytes on")


def _root_queue_bytes(index: int) -> int | None:
    """What has left the first queue of an interface, bytes; None where it has none."""
    request = _TC.pack(0, index, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.bind((0, 0))
        asking.settimeout(10)
        asking.send(_HEADER.pack(_HEADER.size + len(request), _GET_QDISC, _REQUEST | _DUMP, 0, 0) + request)
        found = None
        while True:
            data, at = asking.recv(1 << 18), 0
            while at + _HEADER.size <= len(data):
                size, kind, *_ = _HEADER.unpack_from(data, at)
                if kind in (_ERROR, _DONE):
                    return found
                if kind == _NEW_QDISC:
                    _, where, handle, parent, _ = _TC.unpack_from(data, at + _HEADER.size)
                    if where == index and parent == _ROOT and handle != _NO_HANDLE:
                        body = data[at + _HEADER.size + _TC.size : at + size]
                        basic = _attribute(_attribute(body, _STATISTICS), _BASIC)
                        found = _BYTES.unpack_from(basic)[0] if basic else None
                at += (size + 3) & ~3


def _attribute(data: bytes, wanted: int) -> bytes:
    """A netlink attribute's content; empty where there is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        if kind & 0x3FFF == wanted:
            return data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return b""
