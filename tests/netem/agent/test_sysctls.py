"""TCP's settings and the interface's, as connections and the kernel's own tools see them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from gannet.netem.agent.client import AgentClient, AgentError
from gannet.netem.links.stack import Stack, in_one
from gannet.netem.sandbox import Sandbox
from tests.netem.link_lab import ADDRESSES, node_plan

pytestmark = pytest.mark.real("links")

TALK = """
import socket, sys
role, address = sys.argv[1], (sys.argv[2], 9000)
if role == "serve":
    listening = socket.create_server(address)
    print("ready", flush=True)
    end, _ = listening.accept()
else:
    end = socket.create_connection(address, timeout=120)
print(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(bytes(1)).decode(), flush=True)
print(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True)
"""


@pytest.fixture
def node() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.add_network(ADDRESSES[:2])
        yield sandbox


@pytest.fixture
def agent(node: Sandbox) -> Iterator[AgentClient]:
    with AgentClient.spawn(node.prefix("node0"), "node0") as client:
        client.request("apply", engine="nfqueue", plan=node_plan(0, 10**7, 10**7).to_json())
        yield client


def pinned(agent: AgentClient, **stack: Any) -> dict[str, Any]:
    return agent.request("stack", **Stack(**stack).model_dump())


def sysctl(node: Sandbox, name: str) -> str:
    return node.run(f"cat /proc/sys/net/ipv4/{name}", "node0").strip()


@pytest.mark.parametrize("serves", [0, 1])
@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_both_ends_of_a_connection_use_what_is_pinned(
    node: Sandbox, agent: AgentClient, name: str, serves: int
) -> None:
    """Whoever opens it; the other node's congestion control is its own."""
    pinned(agent, congestion_control=name, mtu=1300)
    address = ADDRESSES[serves]
    argv = [*node.prefix(f"node{serves}"), sys.executable, "-c", TALK, "serve", address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline()
        client = node.run([sys.executable, "-c", TALK, "connect", address], f"node{1 - serves}").split()
        served = server.stdout.read().split()
    of_node_0 = served if serves == 0 else client
    assert of_node_0[0] == name
    assert int(of_node_0[1]) <= 1300 - 40  # headers of IPv4 and TCP


def test_what_is_reported_is_what_is_set(node: Sandbox, agent: AgentClient) -> None:
    for slow_start in (True, False):
        found = pinned(agent, slow_start_after_idle=slow_start, mtu=1400)
        assert found["slow_start_after_idle"] is slow_start
        assert sysctl(node, "tcp_slow_start_after_idle") == str(int(slow_start))
    shown = node.run("ip -d link show dev mesh0", "node0")
    assert "mtu 1400" in shown and f"gso_max_segs {found['gso_max_segs']} " in shown
    assert f"gro_max_size {found['gro_max_size']} " in shown and found["gso_max_segs"] == 1
    assert found["tcp_rmem"] == " ".join(sysctl(node, "tcp_rmem").split())
    # Whoever changes it is undone, like links.
    node.run("ip link set dev mesh0 mtu 1200", "node0")
    deadline_s = time.monotonic() + 240
    while not (repairs := agent.request("counters")["repairs"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert "mtu is 1200, not 1400" in repairs[0]["what"]
    assert "mtu 1400" in node.run("ip link show dev mesh0", "node0")
    agent.request("clear")
    assert "mtu 1500" in node.run("ip link show dev mesh0", "node0")


def test_a_network_that_carries_less_is_taken_as_it_is_unless_more_is_ordered(node: Sandbox) -> None:
    node.run("ip link set dev mesh0 mtu 1450", "node0")
    with AgentClient.spawn(node.prefix("node0"), "node0") as agent:
        with pytest.raises(AgentError, match="no plan is applied"):
            pinned(agent)
        agent.request("apply", engine="nfqueue", plan=node_plan(0, 10**7, 10**7).to_json())
        assert pinned(agent)["mtu"] == 1450
        with pytest.raises(AgentError, match="mtu of mesh0 is 1450, not 1500: the network beneath carries no more"):
            pinned(agent, mtu=1500)


def test_what_cannot_be_set_is_one_clear_error(node: Sandbox, agent: AgentClient) -> None:
    """As in a container, whose /proc/sys is for reading; what is right already needs no writing."""
    with pytest.raises(AgentError, match=r"congestion.*; this kernel has .*cubic"):
        pinned(agent, congestion_control="nosuch")
    pinned(agent)
    node.run("mount --bind /proc/sys /proc/sys")
    node.run("mount -o remount,bind,ro /proc/sys")
    assert pinned(agent)["slow_start_after_idle"] is False
    with pytest.raises(AgentError, match=r"net\.ipv4\.tcp_slow_start_after_idle is 0, not 1, and cannot be set here"):
        pinned(agent, slow_start_after_idle=True)


@pytest.mark.parametrize("wrong", [{"mtu": 9000}, {"mtu": 500}, {"congestion_control": "a b"}, {"nagle": True}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Stack(**wrong)


def test_one_record_of_many_nodes() -> None:
    assert in_one({0: {"mtu": 1500, "tso": True}, 1: {"mtu": 1450, "tso": True}}) == {
        "mtu": {"0": 1500, "1": 1450},
        "tso": True,
    }
