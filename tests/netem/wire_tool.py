"""A second opinion on links: plain sockets, no code of ours.

wire_tool.py echo ADDRESS:PORT                        answer for ever with the arrival time
wire_tool.py ask ADDRESS:PORT COUNT INTERVAL_MS [S]   print [[one-way ms, round-trip ms], …], each within S s (60)
wire_tool.py sink ADDRESS:PORT COUNT QUIET_S          print [[number, one-way ms], …] as they arrived
wire_tool.py send ADDRESS:PORT COUNT INTERVAL_MS [N]  send numbered datagrams, N bytes longer
wire_tool.py gather ADDRESS:PORT SENDERS SECONDS      read what TCP senders send; print the bit/s of IP packets
wire_tool.py flood ADDRESS:PORT 0 0                   send over TCP until the other side closes

Made for machines that stand still now and then. Intervals are the least there are: what a sender has missed it does
not make up for in a burst, which would overflow a queue, or have packets wait for each other. And quiet is what is so
for each of twenty parts of that time: a standstill of the machine, however long, is one of them, and the sender,
which stood still as well, has the others to send what is next.
"""

import contextlib
import json
import os
import pathlib
import selectors
import socket
import struct
import sys
import time
from statistics import median

STAMP = struct.Struct("!IQQ")
QUIET_PARTS = 20
WINDOW_S = 0.5


def numbered(address, count, interval_ms, more=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    due = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, due - time.monotonic()))
        sock.send(STAMP.pack(number, time.monotonic_ns(), 0) + bytes(more))
        yield sock
        due = max(due + interval_ms / 1000, time.monotonic())


def ip_octets():
    """Bytes of the IP packets that have arrived in this network namespace."""
    lines = pathlib.Path("/proc/self/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("IpExt:"))
    return int(values[names.index("InOctets")])


def gather(address, senders, seconds):
    """The median rate of all that arrives over windows of time, the first a second after the last sender was heard.

    The kernel's count and not what was read: TCP hands over what it held back behind a loss all at once. The median,
    since a moment in which the machine stands still is in a few windows only.
    """
    waiting, heard = selectors.DefaultSelector(), set()
    server = socket.create_server(address, backlog=senders)
    waiting.register(server, selectors.EVENT_READ)
    print("ready", flush=True)
    start, counts = float("inf"), []
    while (now := time.monotonic()) < start + seconds:
        if now >= start and (not counts or now - counts[-1][0] >= WINDOW_S / 20):
            counts.append((now, ip_octets()))
        for key, _ in waiting.select(0.01):
            if key.fileobj is server:
                waiting.register(server.accept()[0], selectors.EVENT_READ)
                continue
            key.fileobj.recv(65536)
            heard.add(key.fd)
            if len(heard) == senders and start == float("inf"):
                start = time.monotonic() + 1
    rates, first = [], 0
    for at_s, octets in counts:
        if at_s - counts[first][0] >= WINDOW_S:
            rates.append((octets - counts[first][1]) * 8 / (at_s - counts[first][0]))
        while at_s - counts[first][0] >= WINDOW_S:
            first += 1
    print(median(rates), flush=True)


def main():
    mode, endpoint, *rest = sys.argv[1:]
    if mode in ("ask", "echo", "send", "sink"):
        with contextlib.suppress(PermissionError):  # its own wait for a CPU is no part of a link's delay
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    host, _, port = endpoint.partition(":")
    address = (host, int(port))
    count, last = (int(rest[0]), float(rest[1])) if rest else (0, 0.0)
    if mode == "send":
        for _ in numbered(address, count, last, int(rest[2]) if rest[2:] else 0):
            pass
        return
    if mode == "gather":
        gather(address, count, last)
        return
    if mode == "flood":
        sock = socket.create_connection(address)
        try:
            while True:
                sock.sendall(bytes(8192))
        except OSError:
            return
    if mode == "ask":
        rows = []
        for sock in numbered(address, count, last):
            sock.settimeout(float(rest[2]) if rest[2:] else 60)
            _, departure, arrival = STAMP.unpack(sock.recv(64))
            rows.append([(arrival - departure) / 1e6, (time.monotonic_ns() - departure) / 1e6])
        print(json.dumps(rows))
        return
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(address)
    print("ready", flush=True)
    rows, quiet = [], 0
    while mode == "echo" or len(rows) < count:
        try:
            data, sender = sock.recvfrom(STAMP.size)
        except TimeoutError:
            quiet += 1
            if quiet == QUIET_PARTS:
                break
            continue
        now, quiet = time.monotonic_ns(), 0
        number, departure, _ = STAMP.unpack(data)
        if mode == "echo":
            sock.sendto(STAMP.pack(number, departure, now), sender)
        else:
            sock.settimeout(last / QUIET_PARTS)
            rows.append([number, (now - departure) / 1e6])
    print(json.dumps(rows))


main()
