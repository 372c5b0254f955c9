"""Faults of links while a run goes on: what the ledger is told, and what the others notice.

What an agent does by itself is in tests/netem/agent/test_agent_faults.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gannet.fabrics.links.live_links import LiveLinks
from tests.netem.link_lab import ADDRESSES
from tests.support.gannet import FORK_SERVER, LINK_AGENT, Ran, net, node_process, processes, start
from tests.support.live import SLOW, WORLD, LiveLab, lines, live_lab, live_links, wait_for_line

pytestmark = pytest.mark.real("links")


def test_a_deleted_queue_is_back_and_the_run_is_not_trusted(shared: LiveLab, live: LiveLinks) -> None:
    before_s = live.show().t_s
    shared.sandbox.run("tc qdisc del dev mesh0 root", "node2")
    while "qdisc removed on mesh0" not in (window := wait_for_line(live, event="bad-window"))["what"]:
        pass  # a busy machine has others
    assert window["node"] == 2
    assert before_s <= window["from_s"] <= window["to_s"] <= window["t_s"] <= live.show().t_s
    assert all(a.ok for a in live.show().nodes) and "20Mbit" in shared.sandbox.run("tc class show dev mesh0", "node2")
    (reason,) = (reason for reason in live.reasons() if "another program" in reason)
    assert "1 bad window" in reason and "node 2" in reason


def test_an_interface_that_is_gone_holds_up_nobody_else(shared: LiveLab, live: LiveLinks) -> None:
    node = "node1"
    shared.sandbox.run("ip link set mesh0 netns switch", node)
    try:
        wait_for_line(live, node=3, event=None)  # readings of the others go on
        assert shared.one_way_ms(2, 3) >= 4.5
        assert [a.ok for a in live.show().nodes] == [True, False, True, True]
        assert "no interface mesh0" in live.show().nodes[1].complaint
        while not (broken := [r for r in live.reasons() if "could not be kept" in r]):
            wait_for_line(live, node=3, event=None)
        assert broken[0].startswith("node 1: its links could not be kept from")
    finally:
        shared.sandbox.run(f"ip link set mesh0 netns {node}", "switch")
    while (window := wait_for_line(live, event="bad-window"))["node"] != 1 or "mesh0" not in window["what"]:
        pass  # a busy machine has others
    assert window["to_s"] > window["from_s"]
    assert all(a.ok for a in live.show().nodes) and shared.one_way_ms(0, 1) >= 4.5
    assert any("another program changed links" in reason for reason in live.reasons())


def test_what_is_broken_to_the_end_is_told_at_the_end(shared: LiveLab) -> None:
    with live_links(shared) as live:
        shared.sandbox.run("ip link set mesh0 netns switch", "node0")
        try:
            while not any("could not be kept" in reason for reason in live.reasons()):
                wait_for_line(live, node=3, event=None)
            live.stop()
        finally:
            # As another program would: its agent watches no more.
            shared.sandbox.run("ip link set mesh0 netns node0", "switch")
            for command in (f"ip address add {ADDRESSES[0]}/16 dev mesh0", "ip link set mesh0 up"):
                shared.sandbox.run(command, "node0")
        (window,) = (line for line in lines(live, "bad-window") if "mesh0" in line["what"])
        assert window["node"] == 0 and window["to_s"] > window["from_s"]


def test_two_networks_on_one_machine_do_not_know_of_each_other(shared: LiveLab) -> None:
    """Same names, same addresses, other links; and what one loses the other keeps."""
    with live_links(shared) as swift:
        with live_lab() as other, live_links(other, SLOW) as slow:
            assert all(a.ok for a in (*swift.show().nodes, *slow.show().nodes))
            assert 4.5 <= shared.one_way_ms(0, 1) < 20 and other.one_way_ms(0, 1) >= 39
            slow.change("partition", lambda state: state.partition([[0]], WORLD))
            assert len(shared.arrived(0, 1)) == 99 and other.arrived(0, 1) == []
            rates = [lab.sandbox.run("tc class show dev mesh0", "node0") for lab in (shared, other)]
            assert "20Mbit" in rates[0] and "4Mbit" in rates[1]
        # The other is gone, cleaned up by its agents; here nothing has changed.
        assert all(a.ok for a in swift.show().nodes)
        assert 4.5 <= shared.one_way_ms(0, 1) < 20
        assert not [reason for reason in swift.reasons() if "another program" in reason]


def wait_until(condition: Callable[[], Any], timeout_s: float = 240) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def step_count(run: Path) -> int:
    steps = run / "steps.jsonl"
    return len(steps.read_text().splitlines()) if steps.exists() else 0


def test_an_agent_that_is_killed_is_started_again_and_the_run_continues(tmp_path: Path) -> None:
    """Without its agent a node's links are shut, or unwatched; then they are as configured, and the run untrusted."""
    process = start(tmp_path, ["run"], stop={"steps": 100_000}, pace_ms=20, nodes=4)
    run = tmp_path / "out" / "run" / "seed-1"
    wait_until(lambda: step_count(run) > 40)
    killed = node_process(str(tmp_path), 3, LINK_AGENT)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: "agent-restarted" in (run / "links.jsonl").read_text())
    before = step_count(run)
    wait_until(lambda: step_count(run) > before + 40)
    shown = net("show", XDG_STATE_HOME=str(tmp_path / "state"))
    assert shown.returncode == 0 and shown.stdout.count("applied") == 4, shown.stdout + shown.stderr
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    summary = Ran(process.returncode, output, tmp_path).summary()
    assert not summary["trusted"] and "Traceback" not in output
    reasons = json.loads((run / "certificate.json").read_text())["reasons"]
    assert any("its link agent was lost" in reason for reason in reasons), (reasons, summary)
    # Each node's bytes go on, although the new agent and its queues count from zero.
    read = [json.loads(line) for line in (run / "links.jsonl").read_text().splitlines()]
    for rank in range(4):
        totals = [line["tx_bytes"] for line in read if line.get("node") == rank and "tx_bytes" in line]
        assert totals == sorted(totals) and totals[-1] > totals[0]
    wait_until(lambda: not processes(str(tmp_path)))


def test_a_node_whose_agent_keeps_ending_is_given_up_and_gossip_continues(tmp_path: Path) -> None:
    """It is started again five times; a node whose links nobody watches must not train, but the others may."""
    process = start(tmp_path, ["run"], stop={"steps": 100_000}, pace_ms=20, nodes=4)
    run = tmp_path / "out" / "run" / "seed-1"
    wait_until(lambda: step_count(run) > 40)

    def told(event: str) -> int:
        return (run / "links.jsonl").read_text().count(f'"{event}"')

    for time_over in range(6):
        killed = node_process(str(tmp_path), 3, LINK_AGENT)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda n=time_over: told("agent-lost") > n)  # type: ignore[misc]
        if time_over < 5:
            wait_until(lambda n=time_over: told("agent-restarted") > n)  # type: ignore[misc]

    def steps_of(rank: int) -> int:
        return sum(json.loads(line)["node"] == rank for line in (run / "steps.jsonl").read_text().splitlines())

    wait_until(lambda: len(processes(str(tmp_path), FORK_SERVER)) == 1 + 3)  # the server itself, and the other nodes
    before = [steps_of(rank) for rank in range(4)]
    wait_until(lambda: steps_of(0) > before[0] + 40)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    summary = Ran(process.returncode, output, tmp_path).summary()
    lost = [json.loads(line) for line in (run / "links.jsonl").read_text().splitlines() if '"node-lost"' in line]
    assert [line["node"] for line in lost] == [3] and "its links are no longer watched" in lost[0]["reason"]
    assert "node 3 has lost its link agent" in output and "Traceback" not in output and not summary["trusted"]
    assert steps_of(3) == before[3] < steps_of(0)


def test_two_runs_at_once_have_their_own_links_and_names(tmp_path: Path) -> None:
    """Each certificate holds its own run's links; of one that is killed, nothing is left, and the other goes on."""
    profiles = {"near": {"rate": "50Mbit", "delay_ms": 5}, "far": {"rate": "20Mbit", "delay_ms": 60}}
    state = tmp_path / "state"
    same_user = ["env", f"XDG_STATE_HOME={state}", "COLUMNS=300"]
    running = {
        name: start(
            tmp_path / name,
            ["run"],
            [*same_user, f"MARK={tmp_path / name}"],
            stop={"steps": 100_000},
            links={"profile": profile},
        )
        for name, profile in profiles.items()
    }
    runs = {name: tmp_path / name / "out" / "run" / "seed-1" for name in profiles}
    try:
        for run in runs.values():
            wait_until(lambda run=run: step_count(run) > 3)  # type: ignore[misc]
        assert len({path.name for path in (state / "gannet" / "sandboxes").glob("*.json")}) == 2
        for name, at_least_ms in (("near", 4.5), ("far", 59)):
            edges = json.loads((runs[name] / "certificate.json").read_text())["edges"]
            assert len(edges) == 6 and {edge["expected_delay_ms"] for edge in edges} == {profiles[name]["delay_ms"]}
            assert all(at_least_ms < edge["delay_p50_ms"] < at_least_ms + 50 for edge in edges)
        running["near"].kill()
        running["near"].communicate()
        clean = [*same_user, sys.executable, "-m", "gannet", "clean"]
        said = subprocess.check_output(clean, text=True, cwd=Path(__file__).parents[3]).splitlines()
        assert len(said) == 2 and sum(line.endswith("still running, left alone") for line in said) == 1
        before = step_count(runs["far"])
        wait_until(lambda: step_count(runs["far"]) > before + 3)
        wait_until(lambda: not processes(str(tmp_path / "near"), LINK_AGENT))
        assert len(processes(str(tmp_path / "far"), LINK_AGENT)) == 3
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=400)
    wait_until(lambda: not processes(str(tmp_path)))
