"""What becomes of links when somebody else meddles, or parts of the machinery die: judged by tc, ip and iptables."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from gannet.netem.agent.client import AgentClient, AgentError
from gannet.netem.sandbox import Sandbox
from gannet.netem.shaping.commands import ifb_name
from tests.netem.link_lab import ADDRESSES, TOOL, Lab, node_plan

pytestmark = pytest.mark.real("links")

IFB = ifb_name("mesh0")
PLAN = node_plan(0, 4_000_000, 6_000_000, delay_ms=20)


def in_force(sandbox: Sandbox) -> list[str]:
    """All that the kernel says of node 0's interface: queues, classes, filters, rules, segments; without numbers
    that are given out anew each time."""
    found = []
    for device in ("mesh0", IFB):
        commands = [f"tc qdisc show dev {device}", f"tc class show dev {device}", f"tc filter show dev {device}"]
        commands += [f"tc filter show dev {device} parent ffff:", f"tc filter show dev {device} ingress"]
        for command in commands:
            found += sandbox.run(command, "node0").splitlines()
    found += sandbox.run("iptables -t mangle -S", "node0").splitlines()
    found += re.findall(r"g[sr]o_max_seg?s?i?z?e? \d+", sandbox.run("ip -d link show dev mesh0", "node0"))
    passing = re.compile(r"\b(?!fff)[89a-f][0-9a-f]{3}:|\b(id|tag|index|refcnt|jited|direct_packets_stat) ?[0-9a-f]*")
    return sorted(" ".join(passing.sub("", line).split()) for line in found)


def wait_for(condition: Callable[[], Any], timeout_s: float = 240) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)
    return found


def repairs(agent: AgentClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.request("counters")["repairs"]
    return found


def one_way_ms(lab: Lab) -> float:
    """The shortest of some delays to node 0, by plain sockets: a crowded machine adds, and never takes away."""
    endpoint = lab.endpoint(0)
    lab.start_tool(0, "echo", endpoint)
    return min(there for there, _ in json.loads(lab.tool(1, "ask", endpoint, 20, 5)))


MEDDLING = {
    "the uplink's queue deleted": "tc qdisc del dev mesh0 root",
    "the uplink's queue replaced": "tc qdisc replace dev mesh0 root tbf rate 3mbit burst 3028 limit 15140",
    "the way to the downlink deleted": "tc qdisc del dev mesh0 ingress",
    "the way to the downlink bypassed": "tc filter del dev mesh0 parent ffff:",
    "the downlink's queue deleted": f"tc qdisc del dev {IFB} root",
    "the downlink's device deleted": f"ip link del {IFB}",
}


@pytest.mark.parametrize("command", MEDDLING.values(), ids=MEDDLING.keys())
def test_what_another_program_changes_is_repaired_and_told(lab: Lab, engine: str, command: str) -> None:
    agent, sandbox = lab.agents[0], lab.sandbox
    lab.apply(engine, [PLAN])
    as_ordered = in_force(sandbox)
    assert repairs(agent) == []
    before_s = time.monotonic()
    sandbox.run(command, "node0")
    (repair, *more) = wait_for(lambda: repairs(agent))
    assert in_force(sandbox) == as_ordered and agent.request("read_back")["differences"] == []
    assert before_s <= repair["since_s"] <= repair["until_s"] <= time.monotonic() and not more
    assert "mesh0" in repair["what"] or "down_bps" in repair["what"]
    assert one_way_ms(lab) >= 19
    assert repairs(agent) == []  # nothing is told twice, and no repair is taken for meddling


def test_rules_that_vanish_are_put_back(lab: Lab) -> None:
    """iptables' older kind says nothing when it changes them; they are looked at every few seconds."""
    agent = lab.agents[0]
    lab.apply("nfqueue", [PLAN])
    as_ordered = in_force(lab.sandbox)
    lab.sandbox.run("iptables -t mangle -F", "node0")
    (repair,) = wait_for(lambda: repairs(agent))
    assert f"delay_ms from {ADDRESSES[1]} is 0.0, not 20" in repair["what"]
    assert in_force(lab.sandbox) == as_ordered and one_way_ms(lab) >= 19


def test_what_changes_without_a_notice_is_found_by_looking(lab: Lab, engine: str) -> None:
    lab.apply(engine, [PLAN])
    lab.sandbox.run("ip link set dev mesh0 gso_max_segs 9", "node0")
    after_s = time.monotonic()
    (repair,) = wait_for(lambda: repairs(lab.agents[0]))
    # Since when cannot be known: the time since it was last known to be right is all under suspicion.
    assert repair["since_s"] <= after_s and "up to 9, not 1" in repair["what"]
    assert "gso_max_segs 1 " in lab.sandbox.run("ip -d link show mesh0", "node0")


def test_a_delay_process_that_dies_is_replaced(lab: Lab) -> None:
    agent = lab.agents[0]
    lab.apply("nfqueue", [PLAN])
    (worker,) = children(agent.process.pid, "nfqueue_worker")
    os.kill(worker, signal.SIGKILL)
    (repair,) = wait_for(lambda: repairs(agent))
    assert repair["what"] == "the delay process ended"
    assert children(agent.process.pid, "nfqueue_worker") not in ([], [worker])
    assert one_way_ms(lab) >= 19


def test_a_delay_process_that_is_kept_from_running_delays_nobody(lab: Lab) -> None:
    """What arrives while it stands still is due as the kernel has noted, and neither later nor before."""
    agent = lab.agents[0]
    lab.apply("nfqueue", [node_plan(0, delay_ms=4000)])
    (worker,) = children(agent.process.pid, "nfqueue_worker")
    endpoint = lab.endpoint(0)
    output = lab.start_tool(0, "sink", endpoint, 100, 10)
    os.kill(worker, signal.SIGSTOP)
    lab.tool(1, "send", endpoint, 100, 2)
    time.sleep(1.5)  # as long as a busy host may keep it from running
    os.kill(worker, signal.SIGCONT)
    delays_ms = [delay_ms for _, delay_ms in json.loads(output.readline())]
    assert len(delays_ms) == 100 and min(delays_ms) > 3999.9
    counters = agent.request("counters")
    # They waited 1.5 s and more to be heard of. Of a machine that stands still when they are due the engine tells;
    # had it noted their arrival too late, they would not be late by its account.
    assert median(delays_ms) < 4010 + counters["late_max_ms"]
    assert counters["unstamped"] == 0


def children(pid: int, what: str) -> list[int]:
    """Processes below this one whose command line names `what`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # tools that the agent runs come and go
            for child in map(int, (task / "children").read_text().split()):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found += [child] * (what.encode() in Path(f"/proc/{child}/cmdline").read_bytes())
                    found += children(child, what)
    return found


def test_a_hundred_changes_in_ten_seconds_end_as_ordered(lab: Lab, engine: str) -> None:
    """Under traffic; and none of the agent's own changes is taken for somebody else's."""
    agent = lab.agents[0]
    profiles = [
        node_plan(0, 2_000_000, None, delay_ms=5),
        node_plan(0, 8_000_000, 3_000_000, delay_ms=40),
        node_plan(0, None, 9_000_000),
        node_plan(0, 5_000_000, 5_000_000, delay_ms=10, jitter_ms=3),
    ]
    lab.apply(engine, [PLAN])
    as_ordered = in_force(lab.sandbox)
    endpoint = lab.endpoint(0)
    output = lab.start_tool(0, "sink", endpoint, 5000, 3)
    sending = lab.start_background(1, "send", endpoint, 5000, 2)
    begin_s = time.monotonic()
    for number in range(99):
        agent.request("apply", engine=engine, plan=profiles[number % 4].to_json(), check=number % 2 == 0)
        time.sleep(max(0.0, begin_s + 0.1 * number - time.monotonic()))
    agent.request("apply", engine=engine, plan=PLAN.to_json())
    assert agent.request("read_back")["differences"] == []
    assert in_force(lab.sandbox) == as_ordered
    sending.wait(240)
    arrived = [number for number, _ in json.loads(output.readline())]
    assert len(arrived) > 2500  # engine netem loses what is on its way when its links change
    if engine == "nfqueue":  # a link without any delay lets packets overtake those that are held
        assert sorted(arrived) == list(range(5000))
    assert one_way_ms(lab) >= 19
    assert repairs(agent) == []


def test_orders_and_meddling_at_once_end_as_ordered(lab: Lab, engine: str) -> None:
    agent, stop = lab.agents[0], threading.Event()
    lab.apply(engine, [PLAN])
    as_ordered = in_force(lab.sandbox)

    def meddle() -> None:
        while not stop.is_set():
            both = "tc qdisc del dev mesh0 root; tc qdisc del dev mesh0 ingress; true"
            lab.sandbox.run(["sh", "-c", both], "node0")
            stop.wait(0.15)

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        for number in range(20):
            plan = node_plan(0, 10**6 * (1 + number), 6_000_000, delay_ms=20)
            with suppress(AgentError):  # the meddler was quicker
                agent.request("apply", engine=engine, plan=plan.to_json())
    finally:
        stop.set()
        meddler.join()

    def ordered_at_last() -> bool:
        with suppress(AgentError):  # of what the meddler has left
            agent.request("apply", engine=engine, plan=PLAN.to_json())
        return in_force(lab.sandbox) == as_ordered

    wait_for(ordered_at_last)
    assert repairs(agent)


def test_an_order_that_cannot_be_carried_out_leaves_the_links_as_they_were(lab: Lab, engine: str) -> None:
    agent = lab.agents[0]
    lab.apply(engine, [PLAN])
    as_ordered = in_force(lab.sandbox)
    impossible = replace(PLAN, up_bps=3_000_000, buffer_packets_up=2**40)  # tc takes 32 bits
    with pytest.raises(AgentError, match="apply"):
        agent.request("apply", engine=engine, plan=impossible.to_json())
    assert in_force(lab.sandbox) == as_ordered and agent.request("read_back")["differences"] == []
    (repair,) = repairs(agent)
    assert "a change could not be applied" in repair["what"]


@pytest.fixture
def node() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.add_network(ADDRESSES[:2])
        yield sandbox


def test_an_interface_that_goes_and_comes_back_gets_its_links_again(node: Sandbox, lab: Lab, engine: str) -> None:
    """While it is gone, the agent says so, and answers."""
    with AgentClient.spawn(node.prefix("node0"), "node0") as agent:
        agent.request("apply", engine=engine, plan=PLAN.to_json())
        agent.request("stack", congestion_control="reno", slow_start_after_idle=False, mtu=1400)
        as_ordered = in_force(node)
        node.run("ip link del mesh0", "node0")
        broken = wait_for(lambda: agent.request("counters")["broken"])
        assert "no interface mesh0 in this network namespace" in broken["what"]
        assert "no interface mesh0" in " ".join(agent.request("read_back")["differences"])
        with pytest.raises(AgentError, match="no interface mesh0"):
            agent.request("apply", engine=engine, plan=PLAN.to_json())
        node.run("ip link add mesh0 type veth peer name port0", "node0")
        node.run(f"ip address add {ADDRESSES[0]}/16 dev mesh0", "node0")
        for device in ("mesh0", "port0"):
            node.run(f"ip link set {device} up", "node0")
        (repair,) = wait_for(lambda: repairs(agent))
        assert repair["since_s"] == broken["since_s"] and agent.request("counters")["broken"] is None
        assert in_force(node) == as_ordered and agent.request("read_back")["differences"] == []
        shown = node.run("ip -d route show dev mesh0", "node0") + node.run("ip link show dev mesh0", "node0")
        assert "congctl reno" in shown and "mtu 1400" in shown


TAKEN_AWAY = {
    "its addresses": "ip address flush dev mesh0",
    "its name": "ip link set mesh0 down && ip link set mesh0 name away0",
    "its being up": "ip link set mesh0 down",
    "its Ethernet address": "ip link set mesh0 address 02:00:00:00:00:99",
    "its neighbours": "ip neigh flush dev mesh0 nud permanent",
    "its independence": "ip link add br0 type bridge && ip link set br0 up && ip link set mesh0 master br0",
}


@pytest.mark.parametrize("command", TAKEN_AWAY.values(), ids=TAKEN_AWAY.keys())
def test_what_an_interface_loses_it_gets_again(node: Sandbox, lab: Lab, engine: str, command: str) -> None:
    with AgentClient.spawn(node.prefix("node0"), "node0") as agent:
        hardware = {ADDRESSES[0]: agent.request("interface", device="mesh0")["hardware"]}
        hardware[ADDRESSES[1]] = "02:00:00:00:00:01"
        agent.request("apply", engine=engine, plan=replace(PLAN, hardware=hardware).to_json())
        agent.request("stack", congestion_control="reno", slow_start_after_idle=False, mtu=None)

        def seen() -> list[str]:
            commands = (
                "ip -d link show mesh0",
                "ip -4 address show mesh0",
                "ip route show dev mesh0",
                "ip neigh show",
            )
            lines = "".join(node.run(command, "node0") for command in commands).splitlines()
            return [line for line in lines if "fe80:" not in line]

        before, as_ordered = seen(), in_force(node)
        node.run(["sh", "-c", command], "node0")
        (repair, *_) = wait_for(lambda: repairs(agent))
        assert "mesh0" in repair["what"] or "Ethernet address" in repair["what"]
        wait_for(lambda: agent.request("read_back")["differences"] == [])
        assert seen() == before and in_force(node) == as_ordered


def test_a_killed_agents_links_never_open(node: Sandbox, lab: Lab, engine: str) -> None:
    """With engine nfqueue nothing passes any more; the kernel goes on holding what engine netem has built."""
    with AgentClient.spawn(node.prefix("node0"), "node0") as agent:
        agent.request("apply", engine=engine, plan=node_plan(0, 10**6, 10**6, delay_ms=150).to_json())
        (inner,) = children(agent.process.pid, "gannet.netem.agent.server")
        workers = children(agent.process.pid, "nfqueue_worker")
        os.kill(inner, signal.SIGKILL)
        agent.process.wait(240)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    script = (
        "import socket, sys, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 9000)); "
        "print('ready', flush=True); s.settimeout(3); t = time.monotonic()\n"
        "try: s.recv(99); print(time.monotonic() - t)\nexcept TimeoutError: print('inf')"
    )
    with subprocess.Popen([*node.prefix("node0"), sys.executable, "-c", script], stdout=subprocess.PIPE) as hearing:
        assert hearing.stdout is not None and hearing.stdout.readline()
        node.run([sys.executable, TOOL, "send", f"{ADDRESSES[0]}:9000", "1", "0"], "node1")
        took_s = float(hearing.stdout.readline())
    assert took_s > 0.14 and (engine == "netem" or took_s == float("inf"))
