"""Kernel notifications of changes to interfaces, queues, routes and rules in this network namespace.

A plain netlink socket: an agent receives a few messages an hour, and a library that knows all of them would cost
every node more memory than the rest of its agent. Formats: linux/rtnetlink.h; groups: the same, and
linux/nfnetlink.h.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct, pack

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_LINK, _TC, _IPV4_ROUTE = 1 << 0, 1 << 3, 1 << 6  # RTMGRP_…
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_NFTABLES = 1 << 6  # NFNLGRP_NFTABLES is number 7
_LINKS = {16: "changed", 17: "removed"}
_QUEUES = {
    36: "qdisc changed",
    37: "qdisc removed",
    40: "class changed",
    41: "class removed",
    44: "filter changed",
    45: "filter removed",
}  # RTM_NEWQDISC and so on
_HEADER = Struct("=IHHII")
_INDEX = Struct("=20xi")  # struct ifinfomsg and struct tcmsg have the interface's number at the same place


@dataclass(frozen=True)
class Notice:
    """Changes since the last call: to queues of the given interfaces (`queues`, in words), and whether interfaces,
    routes or rules have changed (`others`); not every such change matters.
    """

    queues: tuple[str, ...] = ()
    others: bool = False


class NetlinkEvents:
    """Listens from its creation on. `files` are the sockets to select on; `take` reads them."""

    def __init__(self) -> None:
        self._ignored = 0
        self.files = [_listen(_NETLINK_ROUTE, _LINK | _TC | _IPV4_ROUTE)]
        with suppress(OSError):  # no nf_tables here: its rules then change without notice
            self.files.append(_listen(_NETLINK_NETFILTER, _NFTABLES))

    def take(self, devices: dict[int, str]) -> Notice:
        """All events received so far; `devices`: names of the interfaces that matter, by number."""
        queues: list[str] = []
        others = False
        for number, file in enumerate(self.files):
            while (data := _receive(file)) is not None:
                if number or not data:  # rules, or the socket's buffer overflowed
                    others = True
                    continue
                at = 0
                while at + _HEADER.size <= len(data):
                    length, kind, *_ = _HEADER.unpack_from(data, at)
                    if kind in _QUEUES:
                        (index,) = _INDEX.unpack_from(data, at)
                        if index in devices:
                            queues.append(f"{_QUEUES[kind]} on {devices[index]}")
                    elif kind not in _LINKS or not devices or _INDEX.unpack_from(data, at)[0] in devices:
                        others = True
                    at += max(_HEADER.size, (length + 3) & ~3)
        return Notice(tuple(dict.fromkeys(queues)), others)

    def ignore(self, port_id: int) -> None:
        """Do not even wake up for what this port changes; 0: listen to all."""
        route = self.files[0]
        if port_id:
            sender = int.from_bytes(port_id.to_bytes(4, sys.byteorder), "big")  # of nlmsghdr, as classic BPF loads it
            program = [(0x20, 0, 0, 12), (0x15, 0, 1, sender), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
            code = ctypes.create_string_buffer(b"".join(pack("=HBBI", *each) for each in program))
            route.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("HP", len(program), ctypes.addressof(code)))
        elif self._ignored:
            route.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        self._ignored = port_id

    def close(self) -> None:
        for file in self.files:
            file.close()


def _listen(protocol: int, groups: int) -> socket.socket:
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        listening.bind((0, groups))
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _receive(file: socket.socket) -> bytes | None:
    """One datagram; b"" when some were lost; None when there is none."""
    try:
        return file.recv(1 << 16)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return b""
        raise
