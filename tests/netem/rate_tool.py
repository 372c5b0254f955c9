"""Watches a link from its ends by plain sockets and by tc, no code of ours; times are CLOCK_MONOTONIC, which all
namespaces of a machine share.

rate_tool.py pour ADDRESS:PORT SECONDS BIT/S          send datagrams that fill frames of 1514 bytes, evenly
rate_tool.py catch ADDRESS:PORT QUIET_S               print [[when it came in s, when it was sent in s], …]
rate_tool.py tick ADDRESS:PORT SECONDS INTERVAL_MS    send small datagrams, evenly
rate_tool.py buckets DEVICE SECONDS                   print [[when read in s, bit/s of its cap], …]
"""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time

STAMP = struct.Struct("!d")
FRAME_BITS = 1514 * 8
QUIET_PARTS = 20  # see wire_tool.py
# Of the class that caps (HTB), or of the token bucket (TBF): engines may use either.
RATE = re.compile(r"(?:ceil|tbf .* rate) ([0-9.]+)([KMG]?)bit")
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}
PAYLOAD = bytes(1472 - STAMP.size)  # with its stamp and the headers of UDP, IPv4 and Ethernet 1514 bytes


def evenly(address, seconds, interval_s, more):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    due = time.monotonic()
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        with contextlib.suppress(BlockingIOError):
            sock.send(STAMP.pack(time.monotonic()) + more, socket.MSG_DONTWAIT)
        due += interval_s


def catch(address, quiet_s):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    sock.bind(address)
    print("ready", flush=True)
    rows, quiet = [], 0
    while True:
        try:
            data = sock.recv(2048)
        except TimeoutError:
            quiet += 1
            if quiet == QUIET_PARTS:
                print(json.dumps(rows), flush=True)
                return
            continue
        rows.append([time.monotonic(), STAMP.unpack_from(data)[0]])
        quiet = 0
        sock.settimeout(quiet_s / QUIET_PARTS)


def buckets(device, seconds):
    print("ready", flush=True)
    rows, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        shown = "".join(
            subprocess.check_output(["tc", what, "show", "dev", device], text=True) for what in ("class", "qdisc")
        )
        found = RATE.search(shown)
        rows.append([time.monotonic(), float(found[1]) * UNITS[found[2]] if found else 0])
        time.sleep(0.005)
    print(json.dumps(rows), flush=True)


def main():
    mode, where, *rest = sys.argv[1:]
    if mode == "buckets":
        buckets(where, float(rest[0]))
        return
    with contextlib.suppress(PermissionError):  # its own wait for a CPU is no part of a link's
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    host, _, port = where.partition(":")
    address = (host, int(port))
    if mode == "catch":
        catch(address, float(rest[0]))
    elif mode == "pour":
        evenly(address, float(rest[0]), FRAME_BITS / float(rest[1]), PAYLOAD)
    else:
        evenly(address, float(rest[0]), float(rest[1]) / 1000, b"")


main()
