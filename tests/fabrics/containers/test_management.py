"""The management network of node containers leads to the controller, and from no node to another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from subprocess import PIPE, Popen

import pytest

from gannet.fabrics import addresses as layout
from gannet.netem.sandbox import Sandbox
from tests.support.gannet import ROOT

pytestmark = pytest.mark.real("links")

# Two nodes on a management network; the second stands for the controller and Prometheus, too.
ADDRESSES = ("10.78.0.2", "10.78.0.3")
PORTS = (layout.CONTROL_PORT, layout.AGENTS_PORT, layout.METRICS_PORT, 29500)
KEEP = """
import sys
from gannet.fabrics.containers.management import keep_to_the_controller
for _ in range(2):
    assert keep_to_the_controller("mesh0", "10.78.0.0/16") == ""
"""
TALK = """
import errno, socket, sys
own, peer, *ports = sys.argv[1:]
listening = [socket.create_server((own, int(port))) for port in ports]
print("ready", flush=True)
sys.stdin.readline()
for port in ports:
    with socket.socket() as trying:
        trying.settimeout(20)
        print("tcp", port, errno.errorcode.get(trying.connect_ex((peer, int(port)))), flush=True)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
    try:
        print("udp", sending.sendto(b"x", (peer, 9)), flush=True)
    except OSError as error:
        print("udp", errno.errorcode[error.errno], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        made.add_network(ADDRESSES)
        yield made


def test_a_node_reaches_the_controller_and_no_node(sandbox: Sandbox) -> None:
    """While others reach it: what Prometheus asks for comes back."""
    sandbox.run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", KEEP], "node0")
    talking = []
    for rank in (0, 1):
        argv = [*sandbox.prefix(f"node{rank}"), sys.executable, "-c", TALK, ADDRESSES[rank], ADDRESSES[1 - rank]]
        talking.append(Popen([*argv, *map(str, PORTS)], stdin=PIPE, stdout=PIPE, text=True))
    assert [said(process, 1) for process in talking] == 2 * [["ready"]]
    found = []
    for process in talking:  # the other one listens meanwhile
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found.append(said(process, len(PORTS) + 1))
    for process in talking:
        process.communicate(timeout=20)
    assert found == [["None", "None", "ECONNREFUSED", "ECONNREFUSED", "EPERM"], [*4 * ["None"], "1"]]


def said(process: Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().split()[-1] for _ in range(lines)]
