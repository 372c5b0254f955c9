"""The bytes that a node reports as sent, against the frames that it did send."""

from __future__ import annotations

import json
import sys

import pytest

from gannet.netem.sandbox import Sandbox
from gannet.node.process.sent_bytes import SentBytes

ADDRESSES = ("10.77.1.10", "10.77.1.11")
# Runs at node 0: sends eight datagrams of 1000 bytes in one packet, before and after each change of the queues.
SCRIPT = """
import json, socket, subprocess, sys, time
from gannet.node.process.sent_bytes import SentBytes

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
peer = sys.argv[1], 9000
sock.sendto(b"", peer)  # which asks for its Ethernet address
time.sleep(0.5)
sent, found = SentBytes("mesh0"), []
for command in sys.argv[2:]:
    subprocess.run(command.split(), check=True)
    sock.sendto(bytes(8000), peer)
    found.append(sent.read())
print(json.dumps(found))
"""
QUEUE = "tc qdisc {} dev mesh0 root handle 9: tbf rate 100gbit burst 64k limit 1m"


@pytest.mark.real("links")
def test_a_header_is_counted_for_each_frame_through_every_change_of_the_queues() -> None:
    commands = [QUEUE.format("add"), "true", QUEUE.format("change"), "tc qdisc del dev mesh0 root", "true"]
    with Sandbox() as sandbox:
        sandbox.add_network(ADDRESSES)
        totals = json.loads(sandbox.run([sys.executable, "-c", SCRIPT, ADDRESSES[1], *commands], "node0"))
    grown = [after - before for before, after in zip([0, *totals], totals, strict=False)]
    # What went before the queues were gone was read with them; the first packet without them counts from then on.
    assert grown == [8 * 1042, 8 * 1042, 8 * 1042, 0, 8042]
    assert totals == sorted(totals)


def test_without_a_device_nothing_is_sent() -> None:
    assert SentBytes(None).read() == 0
    with pytest.raises(OSError, match="no"):
        SentBytes("no-such-device")
