"""Bytes and packets of a shaped interface as they cross the wire: counted by its queues, frame by frame.

A device that takes packets of many segments whole (veth, TSO) counts one header for each such packet, which is up to
40 frames on fast links. The kernel's queues count a header for each frame, and rates with it.
"""

from __future__ import annotations

from pathlib import Path

from gannet.netem.engines import netlink
from gannet.netem.engines.base import EngineError
from gannet.netem.shaping.commands import ifb_name
from gannet.netem.shaping.lines import SPLITTER


def device_counters(device: str) -> dict[str, int]:
    """Bytes, packets and drops of a device of this namespace since it was created."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == device:
            values = [int(value) for value in rest.split()]
            fields = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped")
            received = dict(zip(fields, values[:4], strict=True))
            sent = dict(zip(("tx_bytes", "tx_packets", "tx_errors", "tx_dropped"), values[8:12], strict=True))
            return {**received, **sent}
    raise EngineError(f"no interface {device} in this network namespace")


class FrameCounts:
    """What an interface has sent and received; the counts continue when its queues are rebuilt and begin at zero."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def read(self, device: str) -> dict[str, int]:
        """tx_bytes, tx_packets, rx_bytes and rx_packets, frame by frame, and the device's errors and drops.

        Received is what has come through the downlink; while a node has none, what its device counts.
        """
        found = device_counters(device)
        for direction, name in (("tx", device), ("rx", ifb_name(device))):
            queue = next((node for node in netlink.qdiscs(name) if node.handle == SPLITTER << 16), None)
            if queue is not None:
                found |= {f"{direction}_bytes": queue.bytes, f"{direction}_packets": queue.packets}
        totals = {}
        for name, count in found.items():
            if count < self._seen.get(name, 0):
                self._before[name] = self._before.get(name, 0) + self._seen[name]
            self._seen[name] = count
            totals[name] = self._before.get(name, 0) + count
        return totals
