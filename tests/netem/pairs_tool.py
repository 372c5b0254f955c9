"""Datagrams from every node to every other: pairs_tool.py ADDRESS… prints the pairs that never got one.

Node n is the network namespace `node<n>`, with the n-th address. Its socket is opened in it by setns(2), so that
one process has them all. Each round sends one datagram over each pair that has not had one yet.
"""

import ctypes
import json
import os
import select
import socket
import sys

PORT, ROUNDS, QUIET_S = 9901, 3, 0.3
CLONE_NEWNET = 0x40000000


def socket_in(namespace, address):
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    os.close(handle)
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    opened.bind((address, PORT))
    return opened


addresses = sys.argv[1:]
sockets = [socket_in(f"node{rank}", address) for rank, address in enumerate(addresses)]
ranks = {address: rank for rank, address in enumerate(addresses)}
missing = {(a, b) for a in range(len(addresses)) for b in range(len(addresses)) if a != b}
for _ in range(ROUNDS):
    for source, target in sorted(missing):
        try:
            sockets[source].sendto(b"x", (addresses[target], PORT))
        except OSError:
            continue
    while ready := select.select(sockets, [], [], QUIET_S)[0]:
        for each in ready:
            _, (sender, _) = each.recvfrom(64)
            missing.discard((ranks[sender], sockets.index(each)))
print(json.dumps(sorted(missing)))
