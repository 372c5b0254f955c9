"""The tc lines that netlink can carry out too (gannet.netem.engines.netlink), and the handles of all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gannet.netem.links.plan import FRAME_BYTES

# Handles of the token bucket and of the classifier below it, the class of what matches no source, and the splitter
# above the bucket; all above any source's number. The bucket is the only class of its HTB.
BUCKET, CLASSIFIER, OTHERS, SPLITTER = 0xFFF0, 0xFFF1, 0xFFF2, 0xFFF3
# The rate of a bucket that must not limit: a bucket once built stays, so that caps can come and go while packets
# flow.
UNLIMITED_BPS = 10**12
# The rate of a splitter that holds what it gets: a frame in 25 minutes. tc takes nothing less than a byte a second.
HELD_BPS = 8
WIRE_LIMIT_PACKETS = 1_000_000
UNLIMITED_BYTES = WIRE_LIMIT_PACKETS * FRAME_BYTES
# Of a class below a shared link: so little that it adds up to less than the link has, but not so little that its
# burst overflows the 32 bits of 64 ns each in which tc computes it.
_SURE_BPS = 800


@dataclass(frozen=True)
class Rate:
    """A new rate for an existing token bucket: a change that netlink can make too (gannet.netem.engines.netlink).

    `source`: of that source's class, by its number, in place of the bucket of all (0). `group`: the class of the
    shared link that it is below, by its number, whose rate it then takes its turn at.
    """

    device: str
    rate_bps: int
    burst_bytes: int
    source: int = 0
    group: int = 0

    @property
    def classid(self) -> tuple[int, int]:
        """The class, by the numbers of its qdisc and its own."""
        return (CLASSIFIER, self.source) if self.source else (BUCKET, 1)

    @property
    def sure_bps(self) -> int:
        """What HTB lets the class have whatever its parent has left: next to nothing below a shared link.

        It serves classes within that rate before all others, which would not be taking turns.
        """
        return _SURE_BPS if self.group else self.rate_bps

    @property
    def sure_burst_bytes(self) -> int:
        """The burst at that rate."""
        return 2 * FRAME_BYTES if self.group else self.burst_bytes

    def __str__(self) -> str:
        limits = (
            f"rate {self.sure_bps}bit ceil {self.rate_bps}bit burst {self.sure_burst_bytes} cburst {self.burst_bytes}"
        )
        major, minor = self.classid
        parent = f"{major:x}:{self.group:x}" if self.group else f"{major:x}:"
        where = f"dev {self.device} parent {parent} classid {major:x}:{minor:x}"
        return f"class replace {where} htb {limits} quantum {FRAME_BYTES}"


@dataclass(frozen=True)
class Fifo:
    """A first-in-first-out buffer, limited in bytes (kind bfifo) or packets (pfifo), below `parent`."""

    device: str
    parent: tuple[int, int]
    kind: str
    limit: int

    def __str__(self) -> str:
        where = f"dev {self.device} parent {self.parent[0]:x}:{self.parent[1]:x}"
        return f"qdisc replace {where} {self.kind} limit {self.limit}"


@dataclass(frozen=True)
class Splitter:
    """The qdisc in front of a token bucket, which cuts packets that are longer than `segments` frames into frames.

    TCP obeys the device's gso_max_segs; datagrams sent with UDP_SEGMENT (QUIC), forwarded packets, what a receiver
    has merged (GRO) and TCP connections older than the links do not, and a queue takes or loses such a packet whole.
    tbf cuts what is longer than its burst; its rate limits nothing, nor does its own buffer, which a token bucket
    takes the place of. It counts frames as they cross the wire, which a device that takes packets of many does not.

    `held`: its rate lets nothing pass, and the buffer behind it fills. The bucket could not do that: HTB charges a
    frame sent at a tiny rate to the time after it as well. tbf fills up at every change instead, so that one packet
    still passes, as if its transmission had already begun. After the end of a hold the queue sleeps until it gets
    another packet: see gannet.netem.engines.wake.
    """

    device: str
    segments: int
    held: bool = False

    @property
    def rate_bps(self) -> int:
        return HELD_BPS if self.held else UNLIMITED_BPS

    @property
    def burst_bytes(self) -> int:
        return self.segments * FRAME_BYTES

    @property
    def limit_bytes(self) -> int:
        return UNLIMITED_BYTES

    def __str__(self) -> str:
        limits = f"rate {self.rate_bps}bit burst {self.burst_bytes} limit {self.limit_bytes}"
        return f"qdisc replace dev {self.device} root handle {SPLITTER:x}: tbf {limits}"


Line = str | Rate | Fifo | Splitter
