"""The prototype one would write in half an hour: hold every packet of a queue, then release it, one verdict each.

    nfqueue_prototype.py QUEUE DELAY_MS

The baseline of bench/links.py for engine nfqueue. Raw netlink (include/uapi/linux/netfilter/nfnetlink_queue.h), since
packages around libnetfilter_queue need its headers to install.
"""

import select
import socket
import struct
import sys
import time
from collections import deque

PACKET, CONFIG, VERDICT = 0x300, 0x302, 0x301
queue, delay_s = int(sys.argv[1]), float(sys.argv[2]) / 1000
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
sock.setblocking(False)


def say(kind: int, attribute: int, value: bytes) -> None:
    """One message with one attribute, about the queue."""
    body = struct.pack("!BBH", 0, 0, queue) + struct.pack("=HH", 4 + len(value), attribute) + value
    body += bytes(-len(body) % 4)
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, 1, 0, 0) + body)


say(CONFIG, 1, struct.pack("!BxH", 1, 0))  # bind
say(CONFIG, 2, struct.pack("!IB", 0, 1))  # copy the packet's metadata only
say(CONFIG, 3, struct.pack("!I", 100_000))  # how many may wait
say(CONFIG, 5, struct.pack("!I", 4))  # mask: segmentation offload
say(CONFIG, 4, struct.pack("!I", 4))  # flags: the same, so that large packets pass whole
print("ready", flush=True)
held: deque[tuple[float, bytes]] = deque()
while True:
    wait_s = max(0.0, held[0][0] - time.monotonic()) if held else None
    if select.select([sock], [], [], wait_s)[0]:
        data = sock.recv(4096)
        if struct.unpack_from("=H", data, 4)[0] == PACKET:
            held.append(
                (time.monotonic() + delay_s, data[24:28])
            )  # the packet's number, after its attribute's header
    while held and held[0][0] <= time.monotonic():
        say(VERDICT, 2, struct.pack("!I", 1) + held.popleft()[1])  # accept
