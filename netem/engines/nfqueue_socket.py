"""The kernel's packet queues (NFQUEUE) as a socket: configure, receive packets, give verdicts.

One socket serves all queues of an interface: packets come in the order of their arrival, up to 64 with one call
(recvmmsg), and verdicts leave together. The kernel tells when each packet arrived, so that how long this process
had to wait for a CPU since then does not matter. Wire formats: include/uapi/linux/netfilter/nfnetlink.h and
nfnetlink_queue.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
from errno import EAGAIN, EINTR
from math import inf, nan
from struct import Struct, pack, unpack
from time import monotonic, time
from typing import Any

from gannet.netem.process import widen_receive_buffer

_NETLINK_NETFILTER = 12
_NLMSG_ERROR, _NLM_F_REQUEST, _NLM_F_ACK = 2, 1, 4
_MSG_PACKET, _MSG_VERDICT, _MSG_CONFIG, _MSG_VERDICT_BATCH = 0x0300, 0x0301, 0x0302, 0x0303
_CONFIG_COMMAND, _CONFIG_PARAMS, _CONFIG_MAXLEN, _CONFIG_MASK, _CONFIG_FLAGS = 1, 2, 3, 4, 5
_COMMAND_BIND = 1
_COPY_META, _COPY_PACKET = 1, 2
_FLAG_GSO = 4
_ATTRIBUTE_VERDICT, _ATTRIBUTE_TIMESTAMP, _ATTRIBUTE_PAYLOAD = 2, 4, 10
_DROP, _ACCEPT_WORD = 0, socket.htonl(1)
_RECEIVE_BUFFER_BYTES = 64 << 20
BATCH = 64
_SEND_BYTES = 65536  # of verdicts in one message
_SLOT_BYTES = 66560  # the largest datagram and the kernel's attributes of it
HEADER_BYTES, WHOLE_BYTES = 20, 0xFFFF  # what may be copied of a packet: the fixed part of its IP header, or all
_MSG_DONTWAIT = 0x40
_SIOCGIFMTU = 0x8921

# A packet message: netlink header (16), nfgenmsg (4, with the queue's number), then always first NFQA_PACKET_HDR:
# its attribute header (4) and the packet's number. Both numbers are only ever sent back: no byte order.
_PACKET = Struct("=4xH12xH4xI")
# NFQA_TIMESTAMP: seconds and microseconds of CLOCK_REALTIME, big-endian numbers of 64 bits, of which 32 suffice.
_TIMESTAMP_HEADER = unpack("=I", pack("=HH", 20, _ATTRIBUTE_TIMESTAMP))[0]
_FIRST_OPTIONAL = 32  # where the attributes behind NFQA_PACKET_HDR begin
_SO_TIMESTAMP = 29
# The clock was set if CLOCK_REALTIME jumps this far against CLOCK_MONOTONIC.
_SET_S = 0.01
# Both clocks must be read within this time, or they are read again.
_CLOCKS_S, _CLOCKS_ATTEMPTS = 10e-6, 10
_ERROR = Struct("=16xi")
_ATTRIBUTE = Struct("=HH")
_IP_HEADER = Struct(">BxH")  # version and length of the header in words, length of the packet
# Both kinds of verdict: netlink header, nfgenmsg, and NFQA_VERDICT_HDR with verdict and packet number.
_VERDICT = Struct("=IHHIIBBHHHII")


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint32))


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _packets(timestamp_at: int) -> Struct:
    """A slot as (kind, queue key, packet, header of the timestamp, its seconds, its microseconds)."""
    more = timestamp_at - _PACKET.size
    return Struct(f"{_PACKET.format}{more}xI4xI4xI{_SLOT_BYTES - timestamp_at - 20}x")


def _realtime_ahead_s() -> float:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC."""
    best, ahead_s = inf, 0.0
    for _ in range(_CLOCKS_ATTEMPTS):
        before_s = monotonic()
        real_s = time()
        after_s = monotonic()
        if after_s - before_s < best:
            best, ahead_s = after_s - before_s, real_s - (before_s + after_s) / 2
        if best < _CLOCKS_S:
            break
    return ahead_s


def mtu_bytes(device: str) -> int:
    """The MTU of a device of this network namespace; OSError where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFMTU, pack("=16si12x", device.encode(), 0))
    return int(unpack("=16xi12x", answer)[0])


def queue_key(queue: int) -> int:
    """A queue's number as it appears in packet messages."""
    return socket.htons(queue)


class QueueSocket:
    """All queues of one process. Verdicts are collected until `flush`."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMP, 1)  # the kernel stamps arrivals while a socket asks
        widen_receive_buffer(self.socket, _RECEIVE_BUFFER_BYTES)
        self.refused = self.overruns = 0
        self.unstamped = 0
        self._ahead_s, self._set_s = _realtime_ahead_s(), monotonic()
        self._slots = _packets(_FIRST_OPTIONAL)
        self._payload_at = _FIRST_OPTIONAL
        self.mtu_bytes = 1500  # of the interface that the packets come from
        self._pending = bytearray()
        self._buffer = bytearray(BATCH * _SLOT_BYTES)
        self._view = memoryview(self._buffer)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._vectors = (_Vector * BATCH)(*(_Vector(base + n * _SLOT_BYTES, _SLOT_BYTES) for n in range(BATCH)))
        self._messages: Any = (_Message * BATCH)()
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vectors, message.header.vector_count = ctypes.addressof(vector), 1
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._arguments = (self.socket.fileno(), ctypes.byref(self._messages), BATCH, _MSG_DONTWAIT, None)

    def configure(self, queue: int, maxlen: int, gso: bool, copied: int, bind: bool) -> list[tuple[int, int]]:
        """Set a queue up; returns packets that were announced meanwhile as (queue key, packet).

        `gso`: take packets of many segments whole; else the kernel splits them, so that each can be lost by itself.
        `copied`: announce so many bytes of each packet (0, HEADER_BYTES or WHOLE_BYTES). OSError when the kernel
        refuses (another process listens, no privilege).
        """
        settings = [(_CONFIG_COMMAND, pack(">BxH", _COMMAND_BIND, 0))] if bind else []
        settings += [
            (_CONFIG_PARAMS, pack(">IB", copied, _COPY_PACKET if copied else _COPY_META)),
            (_CONFIG_MAXLEN, pack(">I", maxlen)),
            # Fail-open stays off: a packet that cannot be delayed must not arrive early.
            (_CONFIG_MASK, pack(">I", _FLAG_GSO)),
            (_CONFIG_FLAGS, pack(">I", _FLAG_GSO if gso else 0)),
        ]
        # Bind in a message of its own: older kernels refuse settings for a queue they do not have yet.
        groups = [settings[:1], settings[1:]] if bind else [settings]
        announced: list[tuple[int, int]] = []
        self.socket.settimeout(5)
        for group in groups:
            body = pack("=BB", 0, 0) + pack(">H", queue)
            for kind, value in group:
                body += pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
            flags = _NLM_F_REQUEST | _NLM_F_ACK
            self.socket.send(pack("=IHHII", 16 + len(body), _MSG_CONFIG, flags, 0, 0) + body)
            announced += self._await_acknowledgement(queue)
        self.socket.setblocking(False)
        return announced

    def _await_acknowledgement(self, queue: int) -> list[tuple[int, int]]:
        announced = []
        while True:
            reply = self.socket.recv(65536)
            kind, key, packet = _PACKET.unpack_from(reply.ljust(_PACKET.size, b"\0"))
            if kind == _MSG_PACKET:
                announced.append((key, packet))
            elif kind == _NLMSG_ERROR:
                error = -_ERROR.unpack_from(reply)[0]
                if error:
                    raise OSError(error, f"NFQUEUE {queue}: {os.strerror(error)}")
                return announced

    def receive(self) -> list[tuple[int, int, int, float]]:
        """Waiting packets, at most BATCH: (slot, queue key, packet, when it arrived by CLOCK_MONOTONIC in seconds).

        `payload` returns a slot's content. The arrival time is now for a packet without a time stamp, for one that
        came before the clock was set, and for one that seems to come from the future. A packet's age is no sign of an
        error: a machine may stand still for seconds.
        """
        count = self._receive(*self._arguments)
        if count <= 0:
            if count < 0 and ctypes.get_errno() not in (EAGAIN, EINTR):
                self.overruns += 1  # ENOBUFS: the kernel dropped packets that it could not announce
            return []
        found = []
        ahead_s, now_s, ntohl = _realtime_ahead_s(), monotonic(), socket.ntohl
        if abs(ahead_s - self._ahead_s) > _SET_S:
            self._set_s = now_s
        self._ahead_s, set_s = ahead_s, self._set_s
        for slot, (kind, key, packet, header, seconds, microseconds) in enumerate(
            self._slots.iter_unpack(self._view[: count * _SLOT_BYTES])
        ):
            if kind == _MSG_PACKET:
                if header == _TIMESTAMP_HEADER:
                    arrival_s = ntohl(seconds) + 1e-6 * ntohl(microseconds) - ahead_s
                else:
                    arrival_s = self._stamped_s(slot) - ahead_s
                found.append((slot, key, packet, arrival_s if set_s < arrival_s < now_s else now_s))
            elif kind == _NLMSG_ERROR:
                self.refused += 1
        return found

    def _stamped_s(self, slot: int) -> float:
        """When the packet in a slot arrived by CLOCK_REALTIME, or NaN; remembers the time stamp's offset."""
        place, size = self._find(slot, _ATTRIBUTE_TIMESTAMP)
        if size != 20:
            self.unstamped += 1
            return nan
        self._slots = _packets(place - slot * _SLOT_BYTES)
        seconds, microseconds = unpack(">4xQQ", self._view[place : place + size])
        return float(seconds + 1e-6 * microseconds)

    def _find(self, slot: int, wanted: int) -> tuple[int, int]:
        """(offset in the buffer, size with header) of an attribute of a slot's message, or (0, 0)."""
        begin, length = slot * _SLOT_BYTES, min(self._messages[slot].length, _SLOT_BYTES)
        end, place = begin + length, begin + 20
        while place + 4 <= end:
            size, kind = _ATTRIBUTE.unpack_from(self._view, place)
            if size < 4 or place + size > end:
                break
            if kind & 0x3FFF == wanted:
                return place, size
            place += (size + 3) & ~3
        return 0, 0

    def payload(self, slot: int) -> bytearray:
        """The IP packet in a slot of the last `receive`; empty when it was not copied or did not fit."""
        place, size = self._find(slot, _ATTRIBUTE_PAYLOAD)
        return bytearray(self._view[place + 4 : place + size])

    def frames(self, slot: int) -> int:
        """How many frames the packet in a slot of the last `receive` came in, where at least its header was copied.

        One, but for a datagram that the kernel has put together from fragments before its queue, as it does in a
        network namespace that tracks connections.
        """
        begin = slot * _SLOT_BYTES
        place = begin + self._payload_at
        size, kind = _ATTRIBUTE.unpack_from(self._view, place)
        # The content is the last attribute, mostly at the same place as before.
        if kind != _ATTRIBUTE_PAYLOAD or place + size != begin + self._messages[slot].length:
            place, size = self._find(slot, _ATTRIBUTE_PAYLOAD)
            if size < 4 + HEADER_BYTES:
                return 1
            self._payload_at = place - begin
        words, total = _IP_HEADER.unpack_from(self._view, place + 4)
        if total <= self.mtu_bytes:
            return 1
        header = 4 * (words & 0xF)
        return int(-(-(total - header) // ((self.mtu_bytes - header) & ~7)))

    def accept_through(self, key: int, packet: int) -> None:
        """Let `packet` of a queue and all that came before it pass."""
        self._pending += _VERDICT.pack(
            32, _MSG_VERDICT_BATCH, _NLM_F_REQUEST, 0, 0, 0, 0, key, 12, _ATTRIBUTE_VERDICT, _ACCEPT_WORD, packet
        )

    def accept(self, key: int, packet: int, payload: bytes | bytearray = b"") -> None:
        """Let one packet pass, with another content where `payload` is given."""
        size = 32 + (4 + len(payload) if payload else 0)
        self._pending += _VERDICT.pack(
            size, _MSG_VERDICT, _NLM_F_REQUEST, 0, 0, 0, 0, key, 12, _ATTRIBUTE_VERDICT, _ACCEPT_WORD, packet
        )
        if payload:
            self._pending += pack("=HH", 4 + len(payload), _ATTRIBUTE_PAYLOAD) + payload + bytes(-len(payload) % 4)
        if len(self._pending) > _SEND_BYTES:  # more than the socket takes at once would fail
            self.flush()

    def drop(self, key: int, packet: int) -> None:
        """Drop one packet."""
        self._pending += _VERDICT.pack(
            32, _MSG_VERDICT, _NLM_F_REQUEST, 0, 0, 0, 0, key, 12, _ATTRIBUTE_VERDICT, _DROP, packet
        )

    def flush(self) -> None:
        """Send the collected verdicts."""
        if self._pending:
            self.socket.send(self._pending)
            self._pending.clear()
