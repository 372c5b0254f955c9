"""Reads and changes qdiscs and classes by netlink in this process: forking tc takes a thousand times as long.

Reads every qdisc and class of this network namespace with its counters, and carries out the kinds of changes that
follow a rate in time (gannet.netem.shaping.tc.Rate, Fifo and Splitter). Structures: include/uapi/linux/pkt_sched.h,
rtnetlink.h.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct, calcsize, pack, unpack_from
from typing import Any

from gannet.netem.links.plan import FRAME_BYTES
from gannet.netem.shaping.lines import SPLITTER, Fifo, Rate, Splitter

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 1, 4, 0x300, 0x100, 0x400
_NEW_QDISC, _GET_QDISC, _NEW_CLASS, _GET_CLASS = 36, 38, 40, 42
_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2 = 1, 2, 7
_STATS_BASIC, _STATS_QUEUE = 1, 3
_HEADER = Struct("=IHHII")
_TC = Struct("=BxxxiIII")  # tcmsg: family, ifindex, handle, parent, info
_ATTRIBUTE = Struct("=HH")
_RATE_SPEC = Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
_HTB_PARMS, _HTB_RATE64, _HTB_CEIL64 = 1, 6, 7
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_ROOT = 0xFFFFFFFF
_NETEM_REORDER, _NETEM_LATENCY64 = 3, 10
_ETHERNET = 1  # a link layer with which the kernel wants no rate table
_TICK_NS = 64  # PSCHED_TICKS2NS


@dataclass(frozen=True)
class Node:
    """A qdisc or class: `options` are the raw bytes of its TCA_OPTIONS, counters are cumulative."""

    kind: str
    handle: int
    parent: int
    options: bytes
    bytes: int
    packets: int
    dropped: int
    backlog_bytes: int
    backlog_packets: int


def qdiscs(device: str) -> list[Node]:
    """All qdiscs of a device; none where there is no such device."""
    return _dump(_GET_QDISC, device)


def classes(device: str) -> list[Node]:
    """All classes of a device's qdiscs; none where there is no such device."""
    return _dump(_GET_CLASS, device)


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by type; the last one where a type occurs several times."""
    found, offset = {}, 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def class_rate_bps(node: Node) -> int:
    """The rate that a class of HTB may reach (its ceil), bit/s."""
    options = attributes(node.options)
    if _HTB_CEIL64 in options:
        return 8 * int(unpack_from("=Q", options[_HTB_CEIL64])[0])
    return 8 * int(_RATE_SPEC.unpack_from(options[_HTB_PARMS], _RATE_SPEC.size)[5])


def change(changes: Sequence[Rate | Fifo | Splitter]) -> None:
    """Carry out changes in order; OSError says which was refused and why."""
    with open_socket() as sock:
        for wanted in changes:
            index = socket.if_nametoindex(wanted.device)
            if isinstance(wanted, Rate):
                major, minor = wanted.classid
                parent = major << 16 | wanted.group
                kind, where = _NEW_CLASS, _TC.pack(0, index, major << 16 | minor, parent, 0)
                body = _attribute(_TCA_KIND, b"htb\0") + _attribute(_TCA_OPTIONS, _htb_options(wanted))
            elif isinstance(wanted, Splitter):
                kind, where = _NEW_QDISC, _TC.pack(0, index, SPLITTER << 16, _ROOT, 0)
                body = _attribute(_TCA_KIND, b"tbf\0") + _attribute(_TCA_OPTIONS, _tbf_options(wanted))
            else:
                major, minor = wanted.parent
                kind, where = _NEW_QDISC, _TC.pack(0, index, 0, major << 16 | minor, 0)
                body = _attribute(_TCA_KIND, wanted.kind.encode() + b"\0")
                body += _attribute(_TCA_OPTIONS, pack("=I", wanted.limit))
            sock.send(_message(kind, _REQUEST | _ACK | _REPLACE | _CREATE, where + body))
            for reply, payload in _messages(sock):
                if reply == _NLMSG_ERROR and (error := -unpack_from("=i", payload)[0]):
                    raise OSError(error, f"`tc {wanted}`: {os.strerror(error)}")


def tbf_rate_bps(node: Node) -> int:
    """The rate of a tbf, bit/s."""
    options = attributes(node.options)
    if _TBF_RATE64 in options:
        return 8 * int(unpack_from("=Q", options[_TBF_RATE64])[0])
    return 8 * int(_RATE_SPEC.unpack_from(options[_TBF_PARMS])[5])


def _tbf_options(wanted: Splitter) -> bytes:
    rate = wanted.rate_bps // 8
    spec = _RATE_SPEC.pack(0, _ETHERNET, 0, -1, 0, min(rate, 0xFFFFFFFF))
    options = _attribute(_TBF_PARMS, spec + bytes(_RATE_SPEC.size) + pack("=III", wanted.limit_bytes, 0, 0))
    if rate > 0xFFFFFFFF:
        options += _attribute(_TBF_RATE64, pack("=Q", rate))
    return options + _attribute(_TBF_BURST, pack("=I", wanted.burst_bytes))


def delay_change(index: int, parent: int, handle: int, delay_s: float, rest: Mapping[str, Any]) -> bytes:
    """The message that changes the delay of a netem qdisc, and nothing else.

    `rest`: its `limit` (packets) and `reorder_percent`, which a change sets in any case. Rate and corruption stay.
    """
    reorder = round(rest["reorder_percent"] / 100 * 0xFFFFFFFF)
    ticks = min(0xFFFFFFFF, round(delay_s * 1e9 / _TICK_NS))
    options = pack("=6I", ticks, rest["limit"], 0, int(reorder > 0), 0, 0)
    if reorder:
        options += _attribute(_NETEM_REORDER, pack("=II", reorder, 0))
    options += _attribute(_NETEM_LATENCY64, pack("=q", round(delay_s * 1e9)))
    body = _attribute(_TCA_KIND, b"netem\0") + _attribute(_TCA_OPTIONS, options)
    return _message(_NEW_QDISC, _REQUEST, _TC.pack(0, index, handle, parent, 0) + body)


def _htb_options(wanted: Rate) -> bytes:
    parms, ticks = b"", list[int]()
    for rate_bps, burst_bytes in (
        (wanted.sure_bps, wanted.sure_burst_bytes),
        (wanted.rate_bps, wanted.burst_bytes),
    ):
        parms += _RATE_SPEC.pack(0, _ETHERNET, 0, -1, 0, min(rate_bps // 8, 0xFFFFFFFF))
        ticks.append(min(0xFFFFFFFF, burst_bytes * 10**9 // (rate_bps // 8) // _TICK_NS))
    options = _attribute(_HTB_PARMS, parms + pack("=IIIII", *ticks, FRAME_BYTES, 0, 0))
    for kind, rate_bps in ((_HTB_RATE64, wanted.sure_bps), (_HTB_CEIL64, wanted.rate_bps)):
        if rate_bps // 8 > 0xFFFFFFFF:
            options += _attribute(kind, pack("=Q", rate_bps // 8))
    return options


def open_socket() -> socket.socket:
    """A socket for requests to rtnetlink."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.bind((0, 0))
    sock.settimeout(10)
    return sock


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _messages(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The kernel's answer to one request, up to its end."""
    while True:
        data, offset = sock.recv(1 << 20), 0
        while offset + _HEADER.size <= len(data):
            size, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            yield kind, data[offset + _HEADER.size : offset + size]
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                return
            offset += (size + 3) & ~3


def _dump(kind: int, device: str) -> list[Node]:
    try:
        index = socket.if_nametoindex(device)
    except OSError:
        return []
    nodes = []
    with open_socket() as sock:
        sock.send(_message(kind, _REQUEST | _DUMP, _TC.pack(0, index, 0, 0, 0)))
        for reply, payload in _messages(sock):
            if reply == _NLMSG_ERROR:
                error = -unpack_from("=i", payload)[0]
                raise OSError(error, f"reading the queues of {device}: {os.strerror(error)}")
            if reply != _NLMSG_DONE:
                _, at, handle, parent, _ = _TC.unpack_from(payload)
                if at == index:
                    nodes.append(_node(handle, parent, attributes(payload[_TC.size :])))
    return nodes


def _node(handle: int, parent: int, found: dict[int, bytes]) -> Node:
    counters = attributes(found.get(_TCA_STATS2, b""))
    basic = counters.get(_STATS_BASIC, b"").ljust(calcsize("=QI"), b"\0")
    queue = counters.get(_STATS_QUEUE, b"").ljust(calcsize("=5I"), b"\0")
    (count, packets), (length, backlog, dropped, _, _) = unpack_from("=QI", basic), unpack_from("=5I", queue)
    kind = found[_TCA_KIND].rstrip(b"\0").decode()
    return Node(kind, handle, parent, found.get(_TCA_OPTIONS, b""), count, packets, dropped, backlog, length)
