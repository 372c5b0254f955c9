"""The kernel's notices, without those of the agent's own process (in a throwaway namespace)."""

from __future__ import annotations

import sys

import pytest

from gannet.netem.sandbox import Sandbox

pytestmark = pytest.mark.real("links")

PROGRAM = """
import socket, subprocess
from gannet.netem.agent.netlink_events import NetlinkEvents
from gannet.netem.engines import netlink

def tc(*words):
    subprocess.run(["tc", *words], check=True)

def change(sock, limit):
    body = netlink._TC.pack(0, index, 0x10000, 0xFFFFFFFF, 0)
    body += netlink._attribute(1, b"bfifo\\0") + netlink._attribute(2, limit.to_bytes(4, "little"))
    sock.send(netlink._message(36, 1 | 4, body))
    assert netlink.unpack_from("=i", sock.recv(4096), 16)[0] == 0

subprocess.run(["ip", "link", "add", "some0", "type", "ifb"], check=True)
tc("qdisc", "add", "dev", "some0", "root", "handle", "1:", "bfifo", "limit", "5000")
index = socket.if_nametoindex("some0")
events, own, other = NetlinkEvents(), netlink.open_socket(), netlink.open_socket()
told = []
for ignored in (0, own.getsockname()[0], 0):
    events.ignore(ignored)
    for sock in (own, other):
        change(sock, 6000 + len(told))
        told.append(events.take({index: "some0"}).queues)
print(told)
"""


def test_what_an_ignored_port_changes_wakes_nobody() -> None:
    with Sandbox() as sandbox:
        said = sandbox.run([sys.executable, "-c", PROGRAM])
    heard, silence = "('qdisc changed on some0',)", "()"
    assert said.strip() == f"[{', '.join([heard, heard, silence, heard, heard, heard])}]"
