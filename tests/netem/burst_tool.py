"""Datagrams in bursts: large packets that the kernel cuts (UDP_SEGMENT, as QUIC sends), or one by one.
No code of ours.

burst_tool.py send ADDRESS:PORT BURSTS NUMBER SIZE INTERVAL_MS [single]   NUMBER datagrams of SIZE bytes in each burst
burst_tool.py count ADDRESS:PORT QUIET_S                                  print {bytes of a datagram: how many came}
"""

import collections
import contextlib
import json
import socket
import sys
import time

UDP_SEGMENT = 103
QUIET_PARTS = 20  # see wire_tool.py


def send(address, bursts, number, size, interval_s, single):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sock.connect(address)
    if not single:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    for _ in range(bursts):
        for payload in [bytes(size)] * number if single else [bytes(number * size)]:
            sock.send(payload)
        time.sleep(interval_s)


def count(address, quiet_s):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    sock.bind(address)
    sock.settimeout(20 / QUIET_PARTS)
    print("ready", flush=True)
    found, quiet = collections.Counter(), 0
    while True:
        try:
            found[len(sock.recv(65536))] += 1
        except TimeoutError:
            quiet += 1
            if quiet == QUIET_PARTS:
                print(json.dumps(found), flush=True)
                return
            continue
        quiet = 0
        sock.settimeout(quiet_s / QUIET_PARTS)


def main():
    mode, endpoint, *rest = sys.argv[1:]
    host, _, port = endpoint.partition(":")
    if mode == "count":
        count((host, int(port)), float(rest[0]))
        return
    bursts, number, size = map(int, rest[:3])
    send((host, int(port)), bursts, number, size, float(rest[3]) / 1000, rest[4:] == ["single"])


if __name__ == "__main__":
    main()
