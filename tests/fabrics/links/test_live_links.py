"""Live links with real agents, judged by plain sockets and the kernel's own counters, not by our probes."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gannet.fabrics.job import LinkChange, NodeInterface
from gannet.fabrics.links.live_links import LiveLinks
from gannet.fabrics.links.outlook import LinksBusy
from gannet.netem.agent.client import AgentClient, AgentError
from gannet.netem.links.plan import path_rate_bps
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.stack import Stack
from gannet.netem.links.state import LinkState
from gannet.netem.measure.certificate import Certificate
from gannet.netem.preflight import choose_engine
from tests.netem.link_lab import ADDRESSES
from tests.support.live import RING, SLOW, SWIFT, WORLD, LiveLab, lines, live_lab, live_links, wait_for_line
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")


def slow(state: LinkState) -> LinkState:
    return state.apply(SLOW)


def test_a_change_is_in_force_when_it_is_acknowledged(shared: LiveLab, live: LiveLinks) -> None:
    assert shared.one_way_ms(0, 1) == pytest.approx(5, abs=2)
    outlook = live.change("apply slow", slow)
    assert shared.one_way_ms(0, 1) == pytest.approx(40, abs=2)
    assert shared.one_way_ms(2, 0) == pytest.approx(40, abs=2)
    assert [(a.rank, a.ok, a.applied["up_bps"]) for a in outlook.nodes] == [
        (r, True, 4_000_000) for r in range(WORLD)
    ]
    assert outlook.state.describe() == live.show().state.describe() == "slow"


def test_a_profile_at_one_node_or_link_leaves_the_others_alone(shared: LiveLab, live: LiveLinks) -> None:
    far = LinkProfile(name="far", up_delay_ms=60, down_delay_ms=60)
    nodes = live.change("apply", lambda state: state.apply(SLOW, [2]).apply(far, None, [(0, 1)])).nodes
    assert [a.applied["down_bps"] for a in nodes] == [20e6, 20e6, 4e6, 20e6]
    assert shared.one_way_ms(0, 1) == pytest.approx(60, abs=2)
    assert shared.one_way_ms(1, 0) == pytest.approx(5, abs=2)
    assert shared.one_way_ms(0, 2) == pytest.approx((5 + 40) / 2, abs=2)


def test_a_partition_loses_every_packet_and_healing_brings_them_back(shared: LiveLab, live: LiveLinks) -> None:
    live.change("partition 0,1:2,3", lambda state: state.partition([[0, 1], [2, 3]], WORLD))
    whole = list(range(99))
    assert shared.arrived(0, 2) == shared.arrived(2, 0) == shared.arrived(1, 3) == []
    assert shared.arrived(0, 1) == shared.arrived(3, 2) == whole
    live.change("apply slow", slow)  # a profile is no way through a partition
    assert shared.arrived(2, 0) == []
    live.change("heal", LinkState.heal)
    assert shared.arrived(0, 2) == shared.arrived(2, 0) == whole
    assert shared.one_way_ms(0, 2) == pytest.approx(40, abs=2)


def queues(lab: LiveLab, rank: int) -> dict[tuple[str, str], int]:
    """Packets that each token bucket of a node has passed since it was built."""
    found = {}
    for device in ("mesh0", "ifb-mesh0"):
        shown = json.loads(lab.sandbox.run(f"tc -s -j qdisc show dev {device}", f"node{rank}"))
        found |= {(device, q["handle"]): q["packets"] for q in shown if q["handle"] == "fff0:"}
    return found


def test_the_same_again_touches_nothing(shared: LiveLab, live: LiveLinks) -> None:
    """No packet of a stream is lost or overtaken, and no queue is built anew: their counters go on."""
    count, endpoint = 1500, shared.endpoint(1)
    live.change("apply", lambda state: state.apply(SLOW).partition([[3]], WORLD))
    output = shared.start_tool(1, "sink", endpoint, count, 5)
    sending = shared.start_background(0, "send", endpoint, count, 1)
    before = queues(shared, 0), queues(shared, 1)
    rounds = 0
    while sending.poll() is None:
        state = live.change("apply", lambda state: state.apply(SLOW)).state
        assert live.change("partition 3", lambda state: state.partition([[3]], WORLD)).state == state
        rounds += 1
    assert rounds > 5
    assert [number for number, _ in json.loads(output.readline())] == list(range(count))
    for old, new in zip(before, (queues(shared, 0), queues(shared, 1)), strict=True):
        assert old.keys() == new.keys() and all(new[queue] >= old[queue] for queue in old)
    assert queues(shared, 0)["mesh0", "fff0:"] >= count
    assert len([r for r in live.reasons() if "by hand" in r]) == 1  # what changed nothing is no reason


class Heard:
    """A line to an agent that remembers what was asked of it."""

    def __init__(self, agent: AgentClient) -> None:
        self.name, self._agent, self.asked = agent.name, agent, list[str]()

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
        self.asked.append(op)
        return self._agent.request(op, timeout_s, **arguments)

    def close(self) -> None:
        self._agent.close()


def test_a_trace_is_told_in_few_lines_and_only_to_those_it_concerns(shared: LiveLab) -> None:
    """Twenty steps at node 2, ten a second; then its end, which all agents confirm."""
    rates = [4_000_000 + 100_000 * step for step in range(20)]
    states = [LinkState(profile=SWIFT, nodes={2: SWIFT.model_copy(update={"up_bps": rate})}) for rate in rates]
    changes = [LinkChange(4 + step / 10, state, "trace up") for step, state in enumerate(states)]
    changes.insert(10, LinkChange(4.95, states[9].partition([[3]], WORLD)))  # something else happens in between
    changes[11:] = [replace(c, links=c.links.partition([[3]], WORLD)) for c in changes[11:]]
    heard = [Heard(agent) for agent in shared.agents]
    interfaces = [NodeInterface(rank, "mesh0", address) for rank, address in enumerate(ADDRESSES)]
    live = LiveLinks(heard, interfaces, LinkState(profile=SWIFT), changes, choose_engine("auto"), seed=1, edges=RING)
    live.apply()
    live.start()
    try:
        assert [what for _, what in live.show().schedule] == ["trace up", "swift, node 2: swift, partition 0,1,2 | 3"]
        told = [wait_for_line(live, event="links", by="schedule") for _ in range(2)]
        series = wait_for_line(live, event="series")
        told.append(wait_for_line(live, event="links", operation="end of trace up"))
        limit = shared.sandbox.run("tc class show dev mesh0", "node2")
    finally:
        live.stop()
        shared.clear()
    assert [line["operation"] for line in told] == ["trace up", "apply", "end of trace up"]
    end = told[-1]
    assert end["steps"] + end["skipped"] == 20 and end["late_max_ms"] >= 0
    assert f"rate {rates[-1] // 1000}Kbit" in limit
    assert series["name"] == "trace up" and series["nodes"].keys() >= {"2"}
    node = series["nodes"]["2"]
    assert len(series["at_s"]) == len(series["late_ms"]) == end["steps"] and node["up_bps"][-1] == rates[-1]
    for step, rate in zip(node["step"], node["up_bps"], strict=True):
        assert rate == rates[round(10 * (series["at_s"][step] - 4))]
    # Node 1 heard of the trace's begin, of the partition and of the end, and of no step; node 2 of each.
    assert heard[1].asked.count("apply") <= 1 + 1 + 2
    assert heard[2].asked.count("apply") >= end["steps"]
    assert heard[2].asked.count("read_back") == heard[1].asked.count("read_back")
    assert not [
        reason for reason in live.reasons() if "by hand" in reason or "could not" in reason or "lost" in reason
    ]


def test_a_change_by_hand_may_go_on_in_steps_and_ends(shared: LiveLab, live: LiveLinks) -> None:
    slower = [SWIFT.model_copy(update={"down_bps": rate, "up_bps": rate}) for rate in (8_000_000, 6_000_000)]
    steps = [
        (2.0 * (n + 1), partial(LinkState.apply, profile=profile, nodes=[1])) for n, profile in enumerate(slower)
    ]
    live.change("replay", lambda state: state.apply(SLOW, [1]), for_s=6.0, steps=[(s, c) for s, c in steps])
    series = wait_for_line(live, event="series")
    assert series["nodes"]["1"]["up_bps"] == [8_000_000, 6_000_000]
    wait_for_line(live, event="links", operation="end of replay for 6 s")
    assert live.show().state == LinkState(profile=SWIFT)
    assert "20Mbit" in shared.sandbox.run("tc class show dev mesh0", "node1")


def test_the_stack_of_every_node_is_pinned_and_recorded(live: LiveLinks, shared: LiveLab) -> None:
    found = live.applied_stack
    assert found["congestion_control"] == "cubic" and found["slow_start_after_idle"] is False
    assert found["mtu"] == 1500 and isinstance(found["tso"], bool)
    for rank in range(WORLD):
        assert "congctl cubic" in shared.sandbox.run("ip -d route show dev mesh0", f"node{rank}")
        settings = "/proc/sys/net/ipv4/tcp_slow_start_after_idle /proc/sys/net/ipv4/tcp_no_metrics_save"
        assert shared.sandbox.run(f"cat {settings}", f"node{rank}").split() == ["0", "1"]


def test_a_stack_that_cannot_be_had_is_one_clear_error(shared: LiveLab) -> None:
    interfaces = [NodeInterface(rank, "mesh0", address) for rank, address in enumerate(ADDRESSES)]
    stack, engine = Stack(congestion_control="nosuch"), choose_engine("auto")
    live = LiveLinks(shared.agents, interfaces, LinkState(profile=SWIFT), (), engine, 1, RING, stack)
    with pytest.raises(AgentError, match=r"stack: .*[Cc]ongestion .*; this kernel has .*cubic"):
        live.apply()
    live.stop()
    shared.clear()


def test_a_change_for_a_time_is_undone_and_what_came_after_it_stays(shared: LiveLab, live: LiveLinks) -> None:
    live.change("apply slow", slow, for_s=6.0)
    live.change("apply at 3", lambda state: state.apply(SLOW, [3]))
    assert [what for _, what in live.show().ends] in (["apply slow for 6 s"], [])
    line = wait_for_line(live, event="links", operation="end of apply slow for 6 s")
    assert line["detail"] == "swift, node 3: slow" and line["by"] == "operator" and line["t_s"] >= 6
    assert shared.one_way_ms(0, 1) == pytest.approx(5, abs=2)
    assert shared.one_way_ms(0, 3) == pytest.approx((5 + 40) / 2, abs=2)
    assert live.show().ends == []


def test_the_schedule_goes_on_beside_operators(shared: LiveLab) -> None:
    """It replaces what was applied by hand before; what was cut by hand stays cut."""
    with live_links(shared, changes=[LinkChange(6.0, LinkState(profile=SLOW))]) as live:
        mixed = lambda state: state.apply(LinkProfile(name="odd"), [0]).partition([[3]], WORLD)  # noqa: E731
        live.change("odd", mixed)
        assert [what for _, what in live.show().schedule] == ["slow"]
        line = wait_for_line(live, event="links", by="schedule")
        assert line["detail"] == "slow, partition 0,1,2 | 3" and line["t_s"] >= 6.0
        assert shared.one_way_ms(0, 1) == pytest.approx(40, abs=2)
        assert shared.arrived(0, 3) == []
        assert live.show().schedule == []
        assert not any("slow" in reason for reason in live.reasons())


def test_changes_of_several_threads_are_carried_out_one_after_the_other(live: LiveLinks) -> None:
    """Each is acknowledged with what it asked for, whoever else asked at that moment."""
    wrong: list[Any] = []

    def change(profile: LinkProfile) -> None:
        for _ in range(8):
            nodes = live.change(profile.name, lambda state: state.apply(profile)).nodes
            wrong.extend(a for a in nodes if not a.ok or a.applied["up_bps"] != profile.up_bps)

    threads = [threading.Thread(target=change, args=(profile,)) for profile in (SLOW, SWIFT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    told = lines(live, "links")
    assert len(told) == 16 and all(line["detail"] == line["operation"] for line in told)


def test_the_ledger_is_told_what_is_configured_and_what_is_observed(shared: LiveLab, live: LiveLinks) -> None:
    at_start = [line for line in lines(live, "configured") if line["t_s"] < 1]
    assert [(line["node"], line["up_bps"], line["down_bps"]) for line in at_start] == [
        (rank, 20_000_000, 20_000_000) for rank in range(WORLD)
    ]
    ideal = {"delay_ms": 5.0, "jitter_ms": 0.0, "loss_percent": 0.0}
    assert at_start[0]["paths"] == {"1": ideal, "3": ideal}  # of the ring's edges alone
    live.change("partition", lambda state: state.partition([[0], [1]], WORLD))
    cut = {line["node"]: line["paths"] for line in lines(live, "configured")}
    assert cut[1]["0"]["loss_percent"] == cut[1]["2"]["loss_percent"] == 100 and cut[3]["2"]["loss_percent"] == 0
    live.change("heal", LinkState.heal)
    reading = next(
        line for line in iter(lambda: wait_for_line(live, node=0), None) if set(line.get("rtt_ms", ())) == {"1", "3"}
    )
    assert reading["rtt_ms"]["1"] >= 10 and reading["rtt_ms"]["3"] >= 10


def test_retransmissions_are_counted(shared: LiveLab, live: LiveLinks) -> None:
    live.change(
        "lossy", lambda state: state.apply(LinkProfile(name="lossy", up_delay_ms=2, down_delay_ms=2, loss_percent=20))
    )
    lines(live)

    def sent_again() -> int:
        snmp = shared.sandbox.run("cat /proc/net/snmp", "node0").splitlines()
        return int(next(line for line in reversed(snmp) if line.startswith("Tcp:")).split()[12])

    before = sent_again()
    shared.tcp_bps(0, 1, 2)
    between = sent_again()
    live.stop()
    seen = [line for line in lines(live, None) if line["node"] == 0]
    assert 10 < between - before <= sum(line["retransmitted"] for line in seen) <= sent_again() - before
    # Segments do not count what is sent again, so in one second there may be more of those.
    assert all(line["retransmitted"] >= 0 and line["segments"] >= 0 for line in seen)
    assert sum(line["segments"] for line in seen) > sum(line["retransmitted"] for line in seen)


def test_verify_tells_true_links_from_false_ones_and_counts_a_cut_as_ordered(live: LiveLinks) -> None:

    def right(certificate: Certificate) -> bool:
        return certificate.trusted and all(4 < (edge.delay_p50_ms or 0) < 8 for edge in certificate.edges)

    # Forty echoes of a link are over in a fifth of a second, in which the machine may stand still.
    certificate = seen_right(live.verify, right)
    assert right(certificate), (certificate.reasons, certificate.edges)
    assert [(edge.src, edge.dst) for edge in certificate.edges] == sorted(RING)
    live.change("partition", lambda state: state.partition([[0]], WORLD))
    certificate = seen_right(lambda: live.verify([(0, 1), (1, 0), (1, 2)]), lambda found: found.trusted)
    assert certificate.trusted, certificate.reasons
    by_edge = {(edge.src, edge.dst): edge for edge in certificate.edges}
    assert by_edge[0, 1].delay_p50_ms is None and by_edge[1, 2].delay_p50_ms is not None
    with pytest.raises(ValueError, match="0>9 is no link"):
        live.verify([(0, 9)])


def test_outside_training_and_beyond_reason_nothing_changes(shared: LiveLab) -> None:
    with live_links(shared, start=False) as live:
        with pytest.raises(LinksBusy, match="not training"):
            live.change("apply slow", slow)
        live.start()
        before = live.plans
        with pytest.raises(ValueError, match="node 7, but the nodes are 0 to 3"):
            live.change("apply at 7", lambda state: state.apply(SLOW, [7]))
        assert live.plans == before and live.show().state.describe() == "swift"
        live.stop()
        for ask in (lambda: live.change("apply slow", slow), live.show, live.verify):
            with pytest.raises(LinksBusy):
                ask()
    assert lines(live, "links") == []


def test_one_agent_that_hangs_holds_up_nobody_else(shared: LiveLab, live: LiveLinks) -> None:
    agent = shared.agents[1].process.pid
    inner = int(Path(f"/proc/{agent}/task/{agent}/children").read_text().split()[0])
    os.kill(inner, signal.SIGSTOP)
    try:
        nodes = live.change("apply slow", slow).nodes
    finally:
        os.kill(inner, signal.SIGCONT)
        os.kill(agent, signal.SIGCONT)  # nsenter stops along with what it has started
    assert [a.ok for a in nodes] == [True, False, True, True]
    assert nodes[1].error.startswith("node1: apply: no answer within") and not nodes[1].gone
    assert all(nodes[rank].seconds < nodes[1].seconds for rank in (0, 2, 3))
    assert any("node 1: links were not applied as configured" in reason for reason in live.reasons())
    assert all(a.ok for a in live.change("apply slow", slow).nodes)  # it is back: now it has them


def test_an_agent_that_ends_is_lost_once_and_the_others_go_on() -> None:
    with live_lab() as lab, live_links(lab) as live:
        agent = lab.agents[2]
        inner = int(Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()[0])
        os.kill(inner, signal.SIGKILL)
        line = wait_for_line(live, event="agent-lost")
        assert line["node"] == 2 and "ended" in line["detail"]
        nodes = live.change("apply slow", slow).nodes
        assert [(a.rank, a.gone, a.ok) for a in nodes] == [(r, r == 2, True) for r in range(WORLD)]
        assert lab.one_way_ms(0, 1) == pytest.approx(40, abs=2)
        assert lines(live, "agent-lost") == []
        assert next(reason for reason in live.reasons() if "link agent was lost" in reason).startswith("node 2")
        assert path_rate_bps(live.plans, 0, 1) == 4_000_000
        lab.agents[2].close()
        lab.agents[2] = lab.agents[3]  # nothing to clear there
