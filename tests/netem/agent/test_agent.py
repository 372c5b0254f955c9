"""The agent as its driver meets it: answers, errors, idempotence, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gannet.netem.agent.client import AgentClient, AgentError
from gannet.netem.links.plan import InterfacePlan, PathPlan
from gannet.netem.measure.certificate import Certificate
from gannet.netem.measure.certify import check_links, measure_links
from gannet.netem.sandbox import Sandbox, SandboxError
from gannet.netem.shaping.commands import ifb_name
from tests.netem.link_lab import ADDRESSES, TOOL, Lab, node_plan
from tests.support.patience import seen_right, wait_until

pytestmark = pytest.mark.real("links")


@pytest.fixture
def node() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.add_network(ADDRESSES[:2])
        yield sandbox


def traces(sandbox: Sandbox) -> list[str]:
    """Whatever an engine leaves in node 0."""
    found = []
    if "htb" in sandbox.run("tc qdisc show", "node0") or "ingress" in sandbox.run("tc qdisc show", "node0"):
        found.append("qdisc")
    if ifb_name("mesh0") in sandbox.run("ip link", "node0"):
        found.append("ifb")
    if "NFQUEUE" in sandbox.run("iptables -t mangle -S", "node0"):
        found.append("rule")
    if "gso_max_segs 1 " in sandbox.run("ip -d link show mesh0", "node0"):
        found.append("offload")
    return found


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [other for child in children for other in descendants(child)]


def wait_gone(pids: list[int]) -> None:
    wait_until("children have gone with their agent", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def echoes(sandbox: Sandbox) -> bool:
    """Whether node 0 answers node 1."""
    tool = [sys.executable, TOOL]
    endpoint = f"{ADDRESSES[0]}:9000"
    with subprocess.Popen([*sandbox.prefix("node0"), *tool, "echo", endpoint], stdout=subprocess.PIPE) as echo:
        assert echo.stdout is not None and echo.stdout.readline()
        try:
            sandbox.run([*tool, "ask", endpoint, "1", "1", "5"], "node1")
        except SandboxError as error:
            assert "TimeoutError" in str(error)
            return False
        finally:
            echo.kill()
    return True


def is_trusted(certificate: Certificate) -> bool:
    return certificate.trusted


def test_apply_is_idempotent_and_clear_removes_everything(lab: Lab, engine: str) -> None:
    agent, plan = lab.agents[0], node_plan(0, 1_000_000, 2_000_000, delay_ms=5, loss_percent=1)
    for check in (True, True, False):
        agent.request("apply", engine=engine, plan=plan.to_json(), check=check)
        assert agent.request("read_back")["differences"] == []
    assert traces(lab.sandbox)
    for _ in range(2):
        agent.request("clear")
        assert traces(lab.sandbox) == []
        assert agent.request("read_back") == {"engine": None, "differences": []}


def test_rates_may_come_and_go(lab: Lab, engine: str) -> None:
    for up_bps, down_bps, delay_ms in (
        (10**6, None, 5),
        (None, 2 * 10**6, 0),
        (10**6, 10**6, 7),
        (None, None, 0),
    ):
        lab.apply(engine, [node_plan(0, up_bps, down_bps, delay_ms=delay_ms)])


def test_read_back_tells_what_differs_until_it_is_mended(lab: Lab, engine: str) -> None:
    """A repair needs the interface; without it the agent can only say what is wrong."""
    lab.apply(engine, [node_plan(0, 1_000_000, 2_000_000, delay_ms=5)])
    agent, sandbox = lab.agents[0], lab.sandbox
    sandbox.run("ip link set mesh0 netns switch", "node0")
    try:
        assert "no interface mesh0 in this network namespace" in agent.request("read_back")["differences"]
    finally:
        sandbox.run("ip link set mesh0 netns node0", "switch")
        for command in (f"ip address add {ADDRESSES[0]}/16 dev mesh0", "ip link set mesh0 up"):
            sandbox.run(command, "node0")
    wait_until("links are repaired", lambda: not agent.request("read_back")["differences"])
    assert traces(sandbox)


def test_counters_count(lab: Lab, engine: str) -> None:
    lab.apply(engine, [node_plan(rank, 10**7, 10**7, delay_ms=2) for rank in range(2)])
    endpoint = lab.endpoint(1)
    lab.start_tool(1, "echo", endpoint)
    before = lab.agents[0].request("counters")
    lab.tool(0, "ask", endpoint, 500, 2)
    after = lab.agents[0].request("counters")
    # 20 bytes, 8 of UDP, 20 of IP, 14 of Ethernet; neighbour and router discovery add frames at times of their own.
    for direction in ("tx", "rx"):
        assert after[f"{direction}_bytes"] - before[f"{direction}_bytes"] == pytest.approx(500 * 62, rel=0.05)
    assert after["dropped_up"] == after["dropped_down"] == 0
    assert after["clock_ns"] > before["clock_ns"] and not after["repairs"] and after["broken"] is None
    counted = [counters["classes"][ADDRESSES[1]] for counters in (before, after)]
    assert 500 <= counted[1]["packets"] - counted[0]["packets"] <= 505
    # Of one source alone; without Ethernet's header in engine nfqueue, which sees packets above it.
    assert counted[1]["bytes"] - counted[0]["bytes"] == pytest.approx(
        500 * (62 if engine == "netem" else 48), rel=0.05
    )
    assert counted[1]["dropped"] == 0 and after["classes"][ADDRESSES[2]]["packets"] == 0
    if engine == "nfqueue":
        assert after["released"] - before["released"] == 500
        assert after["late_max_ms"] >= after["late_p99_ms"] >= after["late_p50_ms"] > 0


def test_round_trips_of_watched_peers_are_counted(lab: Lab, engine: str) -> None:
    def quick(rtt_ms: dict[str, float]) -> bool:
        # A machine that stands still makes some longer, none shorter; and nobody answers for the other.
        assert rtt_ms.keys() <= {peer} and all(ms >= 20 for ms in rtt_ms.values())
        return any(ms < 30 for ms in rtt_ms.values())

    lab.apply(engine, [node_plan(rank, delay_ms=10) for rank in range(2)])
    agent, (own, peer), silent = lab.agents[0], ADDRESSES[:2], "10.77.1.99"  # who is not there
    assert agent.request("counters")["rtt_ms"] == {}
    lab.agents[1].request("probe_serve", address=peer)
    before = agent.request("counters")["tx_packets"]
    agent.request("watch", peers=[peer, silent], interval_s=0.02)
    wait_until("a round trip takes what it should", lambda: quick(agent.request("counters")["rtt_ms"]))
    for peers in ([peer], []):
        agent.request("watch", peers=peers, interval_s=0.02)
    agent.request("counters")
    sent = agent.request("counters")["tx_packets"]
    assert sent > before
    time.sleep(0.2)
    assert agent.request("counters")["tx_packets"] - sent <= 4  # discoveries of neighbours have times of their own
    with pytest.raises(AgentError, match=r"watch: interval_s is 0: it must be above 0"):
        agent.request("watch", peers=[own], interval_s=0)
    agent.request("clear")
    with pytest.raises(AgentError, match="no plan is applied"):
        agent.request("watch", peers=[own], interval_s=1)


def test_links_can_be_changed_while_a_probe_measures(lab: Lab) -> None:
    def deaf_to_node_3(plan: InterfacePlan) -> InterfacePlan:
        return replace(plan, paths={**plan.paths, ADDRESSES[3]: PathPlan(loss_percent=100)})

    lab.apply("nfqueue", [deaf_to_node_3(node_plan(0))])
    lab.agents[3].request("probe_serve", address=ADDRESSES[3])
    agent, ended = lab.agents[0], threading.Event()
    silence = {"kind": "delay", "source": ADDRESSES[0], "target": ADDRESSES[3], "count": 1, "interval_s": 0.1}
    before = agent.request("counters")["tx_packets"]

    def probe() -> None:
        assert agent.request("probe", wait_s=20, **silence)["one_way_ms"] == []
        ended.set()

    thread = threading.Thread(target=probe)
    thread.start()
    while agent.request("counters")["tx_packets"] == before:  # until the echo is on its way
        assert thread.is_alive()
    lab.apply("nfqueue", [deaf_to_node_3(node_plan(0, delay_ms=2))])
    assert not ended.is_set()
    thread.join()
    assert ended.is_set()


def test_drops_are_counted_where_they_happen(lab: Lab, engine: str) -> None:
    lab.apply(engine, [node_plan(0, 10**6, 10**6), node_plan(1, 10**6, 10**6)])
    endpoint = lab.endpoint(1)
    lab.start_tool(1, "sink", endpoint, 2000, 1)
    lab.tool(0, "send", endpoint, 2000, 0)
    assert lab.agents[0].request("counters")["dropped_up"] > 10


def test_errors_say_what_where_and_why(lab: Lab) -> None:
    agent, plan = lab.agents[0], node_plan(0, delay_ms=1).to_json()
    with pytest.raises(AgentError, match="node0: dance: no operation 'dance': choose one of apply"):
        agent.request("dance")
    with pytest.raises(AgentError, match="node0: apply: no engine 'magic': choose one of netem, nfqueue"):
        agent.request("apply", engine="magic", plan=plan)
    with pytest.raises(AgentError, match="no interface eth7 in this network namespace"):
        agent.request("apply", engine="nfqueue", plan={**plan, "device": "eth7"})
    with pytest.raises(AgentError, match=r"apply: .*unexpected keyword argument 'speed'"):
        agent.request("apply", engine="nfqueue", plan={**plan, "speed": 1})
    with pytest.raises(AgentError, match="no plan is applied"):
        agent.request("counters")
    silence = {"kind": "delay", "source": ADDRESSES[0], "target": "10.77.9.9", "count": 1, "interval_s": 0}
    with pytest.raises(AgentError, match=r"node0: probe: no answer within 0\.1 s"):
        agent.request("probe", timeout_s=0.1, wait_s=3, **silence)
    assert agent.request("read_back") == {"engine": None, "differences": []}


@pytest.mark.parametrize("ending", ["end of stdin", "exit", "SIGTERM"])
def test_an_agent_that_ends_leaves_nothing(node: Sandbox, ending: str) -> None:
    agent = AgentClient.spawn(node.prefix("node0"))
    agent.request("apply", engine="nfqueue", plan=node_plan(0, 10**6, 10**6, delay_ms=5).to_json())
    agent.request("probe_serve", address=ADDRESSES[0])
    assert traces(node) == ["qdisc", "ifb", "rule", "offload"]
    children = descendants(agent.process.pid)
    assert len(children) == 3  # the agent in the sandbox, its delay process, its probe server
    if ending == "SIGTERM":
        os.kill(children[0], signal.SIGTERM)
    elif ending == "exit":
        agent.request("exit")
    agent.close()
    wait_gone(children)
    assert traces(node) == []


def test_children_die_with_a_killed_agent_and_its_links_stay_shut(node: Sandbox) -> None:
    """A packet that cannot be delayed must not pass; the next agent starts afresh."""
    plan = node_plan(0, 10**6, 10**6, delay_ms=5)
    agent = AgentClient.spawn(node.prefix("node0"))
    agent.request("apply", engine="nfqueue", plan=plan.to_json())
    children = descendants(agent.process.pid)
    os.kill(children[0], signal.SIGKILL)
    wait_gone(children)
    agent.close()
    assert not echoes(node)
    with AgentClient.spawn(node.prefix("node0")) as successor:
        successor.request("apply", engine="nfqueue", plan=plan.to_json())
        assert successor.request("read_back")["differences"] == []
        assert echoes(node)
    assert traces(node) == []


def test_a_sandbox_ends_when_its_owner_is_killed() -> None:
    script = (
        "import sys, time\nfrom gannet.netem.sandbox import Sandbox\n"
        "with Sandbox() as s:\n s.run('ip netns add x')\n print(s._pid, flush=True)\n time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    inside = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_gone([inside])


def test_a_certificate_of_true_links_and_of_a_false_one(lab: Lab, engine: str) -> None:
    plans = [node_plan(rank, 10**7, 10**7, delay_ms=10) for rank in range(4)]
    ring = [(rank, (rank + step) % 4) for rank in range(4) for step in (1, 3)]
    lab.apply(engine, plans)
    clients = dict(enumerate(lab.agents))
    certificate = seen_right(lambda: measure_links(clients, plans, ring), is_trusted)
    assert certificate.trusted, certificate.reasons
    assert len(certificate.edges) == 8

    # One node's links are not what the plans say: its incoming links, and they alone, must show it.
    lab.agents[2].request("apply", engine=engine, plan=node_plan(2, 10**7, 8 * 10**6, delay_ms=14).to_json())
    lab.agents[2].request("read_back")

    def false_one_told(certificate: Certificate) -> bool:
        by_edge = {(edge.src, edge.dst): edge for edge in certificate.edges}
        reasons = by_edge[1, 2].reasons
        return (
            not certificate.trusted
            and by_edge[3, 0].ok
            and reasons[0].startswith("one-way delay 14")
            and any(reason.startswith("one-way delay 14") and "under load" in reason for reason in reasons)
            and any(reason.startswith(("rate 8", "rate 7.9")) for reason in reasons)
        )

    certificate = seen_right(lambda: measure_links(clients, plans, [(1, 2), (3, 0)]), false_one_told)
    assert false_one_told(certificate), certificate.reasons


def test_links_between_two_clocks_are_judged_by_round_trips(node: Sandbox) -> None:
    """A time namespace is a clock of its own, as another machine has."""
    plans = [node_plan(rank, 10**7, 10**7, delay_ms=10 + 5 * rank) for rank in range(2)]
    prefixes = [node.prefix("node0"), [*node.prefix("node1"), "unshare", "--time", "--monotonic", "5000", "--fork"]]
    agents = [AgentClient.spawn(prefix, f"node {rank}") for rank, prefix in enumerate(prefixes)]
    try:
        for agent, plan in zip(agents, plans, strict=True):
            agent.request("apply", engine="nfqueue", plan=plan.to_json())
        clients, edges = dict(enumerate(agents)), [(0, 1), (1, 0)]
        for measure in (measure_links, check_links):
            certificate = seen_right(lambda measure=measure: measure(clients, plans, edges), is_trusted)  # type: ignore[misc]
            assert certificate.trusted, certificate.reasons
            assert all(edge.from_round_trip for edge in certificate.edges)
        agents[1].request("apply", engine="nfqueue", plan=node_plan(1, 10**7, 10**7, delay_ms=21).to_json())

        # Whose fault it is, a round trip cannot tell: both links are 6 ms too slow by it.
        def both_told(late: Certificate) -> bool:
            told = [", by the round trip, not" in reason for reason in late.reasons] == [True] * 4  # idle and loaded
            return told and [edge.delay_p50_ms for edge in late.edges] == pytest.approx([15 + 6, 10 + 6], abs=1)

        late = seen_right(lambda: measure_links(clients, plans, edges), both_told)
        assert both_told(late), late.reasons
    finally:
        for agent in agents:
            agent.close()


@pytest.mark.parametrize("rate_bps", [10**7, 10**8])
def test_rates_are_right_on_an_overlay_networks_mtu(node: Sandbox, rate_bps: int) -> None:
    """Its frames are smaller than Ethernet's; at 100 Mbit/s, several leave at once."""
    plans = [node_plan(rank, rate_bps, rate_bps, delay_ms=1) for rank in range(2)]
    assert (plans[0].segments > 1) is (rate_bps > 10**7)
    agents = [AgentClient.spawn(node.prefix(f"node{rank}"), f"node {rank}") for rank in range(2)]
    try:
        for rank, agent in enumerate(agents):
            node.run("ip link set mesh0 mtu 1450", f"node{rank}")
            agent.request("apply", engine="nfqueue", plan=plans[rank].to_json())

        def right(certificate: Certificate) -> bool:
            # With frames of 1514 bytes, cut in two on their way, 10 Mbit/s would look like 9.78.
            found = [edge.measured_rate_bps for edge in certificate.edges]
            return certificate.trusted and found == pytest.approx([rate_bps] * 2, rel=0.015)

        certificate = seen_right(lambda: measure_links(dict(enumerate(agents)), plans, [(0, 1), (1, 0)]), right)
        assert right(certificate), (certificate.reasons, certificate.edges)
    finally:
        for agent in agents:
            agent.close()
