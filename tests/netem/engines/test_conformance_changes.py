"""What every engine must do alike while links change, and what it tells of them (see conformance.py)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import pytest

from gannet.netem.agent.client import AgentError
from gannet.netem.links.plan import BurstPlan, PathPlan
from tests.netem.engines.conformance import HEADERS, SMALL, arrivals, as_planned, at_rate, with_paths
from tests.netem.link_lab import ADDRESSES, SERVER, Lab, node_plan

pytestmark = pytest.mark.real("links")


def test_no_moment_of_a_change_is_unshaped(lab: Lab, engine: str) -> None:
    """While caps and paths come and go and delays change shape, no packet is ever faster than either plan."""
    base = node_plan(1, delay_ms=40)
    source, other = ADDRESSES[0], ADDRESSES[2]
    rated = replace(base, up_bps=4_000_000, down_bps=4_000_000)
    uniform, table = PathPlan(40, jitter_ms=5), PathPlan(40, "normal", jitter_ms=2)
    plans = [
        base,
        rated,
        replace(base, paths={source: uniform}),
        replace(rated, paths={source: table, other: PathPlan(delay_ms=1)}),
        replace(rated, paths={source: uniform}, buffer_packets_down=100),
        replace(rated, down_bps=2_000_000, up_bps=None),
        replace(base, paths={source: PathPlan(delay_ms=30), other: PathPlan(duplicate_percent=1)}),
    ]
    lab.apply(engine, [node_plan(0), base])
    endpoint = lab.endpoint(1)
    output = lab.start_tool(1, "sink", endpoint, 100_000, 2)
    sender = lab.start_background(0, "send", endpoint, 3000, 2)
    changes = 0
    while sender.poll() is None or changes < 2 * len(plans):
        lab.agents[1].request("apply", engine=engine, plan=plans[changes % len(plans)].to_json())
        changes += 1
        time.sleep(0.1)
    received = json.loads(output.readline())
    assert len(received) > 1000  # engine netem loses what is on its way when jitter changes its kind
    assert min(late_ms for _, late_ms in received) > 29.9


def test_changes_of_rate_give_nothing_away(lab: Lab, engine: str) -> None:
    """A bucket that filled up at each of ten changes a second would pass 17% more than its rate."""
    plans = [node_plan(1, 1_000_000, rate, delay_ms=1) for rate in (1_000_000, 1_000_100)]
    lab.apply(engine, [node_plan(0), plans[0]])
    changed = []

    def changing_bps() -> float:
        address, port = lab.endpoint(1).split(":")
        output = lab.start(1, *SERVER, "-p", port)
        words = ["-u", "-b", "2M", "-l", str(SMALL), "-t", "5"]
        client = lab.start_program(0, "iperf3", "-c", address, "-p", port, *words)
        changes = 0
        while client.poll() is None:
            lab.agents[1].request("apply", engine=engine, plan=plans[changes % 2].to_json())
            changes += 1
        changed.append(changes)
        return lab.steady_bps(output.read(), 0.5)

    assert at_rate(changing_bps, 1_000_000 * SMALL / (SMALL + HEADERS))
    assert changed[-1] > 10  # or it was not put to the test


def test_plans_change_live_without_losing_packets(lab: Lab, engine: str) -> None:
    lab.apply(engine, [node_plan(0), node_plan(1, 1_000_000, 1_000_000, delay_ms=50)])
    endpoint = lab.endpoint(1)
    output = lab.start_tool(1, "sink", endpoint, 600, 3)
    sender = lab.start_background(0, "send", endpoint, 600, 4)
    for delay_ms, rate_bps in ((150, 2_000_000), (20, 500_000), (80, 4_000_000)):
        lab.apply(engine, [node_plan(0), node_plan(1, rate_bps, rate_bps, delay_ms=delay_ms)])
    assert sender.wait(240) == 0
    assert [number for number, _ in json.loads(output.readline())] == list(range(600))
    assert as_planned(lambda: [[ms for _, ms in path] for path in arrivals(lab, 50, 5)], [80])


def test_a_delay_that_shrinks_holds_nothing_up_where_it_is_released(lab: Lab, engine: str) -> None:
    """Without it packets keep their order, and the link stands still for as long as the delay has shrunk."""
    lab.apply(engine, [node_plan(0), node_plan(1, delay_ms=50_000)])
    endpoint = lab.endpoint(1)
    output = lab.start_tool(1, "sink", endpoint, 200, 2)
    lab.tool(0, "send", endpoint, 100, 1)
    quick = node_plan(1, delay_ms=20)
    lab.agents[1].request("apply", engine=engine, plan=quick.to_json(), release=True)
    assert lab.agents[1].request("read_back")["differences"] == []
    lab.tool(0, "send", endpoint, 100, 1)
    received = json.loads(output.readline())
    held, later = ([ms for _, ms in received[:-100]], received[-100:])
    assert [number for number, _ in later] == list(range(100)) and min(ms for _, ms in later) > 19.9
    assert max(ms for _, ms in later) < 30_000
    # Engine netem cannot let go of what it holds but by losing it.
    assert len(held) == (100 if engine == "nfqueue" else 0) and all(20 < ms < 40_000 for ms in held)


def test_a_cut_path_carries_nothing_and_a_healed_one_everything(lab: Lab, engine: str) -> None:
    """While the other paths of the node, the same plan again and again included, lose no packet."""
    ideal, shaped = node_plan(0), node_plan(1, 10_000_000, 10_000_000, delay_ms=20)
    paths = dict(shaped.paths)
    paths[ADDRESSES[2]] = replace(paths[ADDRESSES[2]], loss_percent=100.0)
    cut = replace(shaped, paths=paths)
    lab.apply(engine, [ideal, shaped])
    endpoints = [lab.endpoint(1) for _ in range(2)]
    outputs = [lab.start_tool(1, "sink", endpoint, 600, 8) for endpoint in endpoints]
    lab.tool(2, "send", endpoints[1], 100, 1)
    sending = lab.start_background(0, "send", endpoints[0], 600, 4)
    for plan in (shaped, shaped, cut, cut):
        lab.apply(engine, [ideal, plan])
    lab.tool(2, "send", endpoints[1], 100, 1)
    lab.apply(engine, [ideal, shaped])
    lab.tool(2, "send", endpoints[1], 100, 1)
    assert sending.wait(240) == 0
    through, parted = ([number for number, _ in json.loads(output.readline())] for output in outputs)
    assert through == list(range(600))
    assert parted == 2 * list(range(100))


def test_counters_of_each_source(lab: Lab, engine: str) -> None:
    paths = {0: PathPlan(delay_ms=5), 2: PathPlan(delay_ms=5, loss_percent=20)}
    lab.apply(engine, [node_plan(0), with_paths(node_plan(1), paths)])
    before = lab.agents[1].request("counters")["classes"]
    received = arrivals(lab, 1000, 0.5, (0, 2))
    after = lab.agents[1].request("counters")["classes"]
    for rank, got in zip(paths, received, strict=True):
        was, now = (found[ADDRESSES[rank]] for found in (before, after))
        lost = now["dropped"] - was["dropped"]
        assert lost == 1000 - len(got)
        # Engine nfqueue counts what arrives at a path, engine netem what leaves it.
        taken = now["packets"] - was["packets"] + (lost if engine == "netem" else 0)
        assert 1000 <= taken <= 1010  # neighbours may greet each other besides
        assert now["backlog_packets"] == 0


@pytest.mark.parametrize("queue", ["codel", "fq_codel", "sfq"])
def test_a_managed_queue_is_there_or_named_as_missing(lab: Lab, engine: str, queue: str) -> None:
    plan = replace(node_plan(1, 2_000_000, 2_000_000, delay_ms=5), queue=queue, buffer_bytes_down=500_000)
    try:
        lab.sandbox.run(f"tc qdisc add dev lo root {queue}", "node0")
        lab.sandbox.run("tc qdisc del dev lo root", "node0")
    except RuntimeError:
        with pytest.raises(AgentError, match=f"this kernel has no sch_{queue}"):
            lab.agents[1].request("apply", engine=engine, plan=plan.to_json())
        return
    lab.apply(engine, [node_plan(0), plan])
    for device in ("mesh0", "ifb-mesh0"):
        kinds = [line.split()[1] for line in lab.sandbox.run(f"tc qdisc show dev {device}", "node1").splitlines()]
        assert queue in kinds and "bfifo" not in kinds
    # A queue of 2 s would fill; CoDel keeps it near its target. SFQ only shares it.
    flooding = lab.start_background(0, "flood", flooded(lab), 0, 0)
    lab.tool(2, "ask", echoing(lab), 100, 10)
    standing_ms = median(there for there, _ in json.loads(lab.tool(2, "ask", echoing(lab), 60, 10)))
    assert flooding.poll() is None
    if queue != "codel" or engine == "nfqueue":
        assert standing_ms < 60


def flooded(lab: Lab) -> str:
    endpoint = lab.endpoint(1)
    lab.start_tool(1, "gather", endpoint, 1, 60)
    return endpoint


def echoing(lab: Lab) -> str:
    endpoint = lab.endpoint(1)
    lab.start_tool(1, "echo", endpoint)
    return endpoint


def test_every_field_reads_back(lab: Lab, engine: str) -> None:
    """And a plan takes the place of any other, nothing of which stays."""
    full = PathPlan(
        50, "pareto", BurstPlan(1.5, 30, 90, 0.1), jitter_ms=5, loss_percent=2.5, reorder_percent=3,
        duplicate_percent=4, corrupt_percent=5,
    )  # fmt: skip
    plain = PathPlan(delay_ms=7)
    uniform = PathPlan(delay_ms=7, jitter_ms=3)
    for path in (full, plain, full, uniform, PathPlan(loss_percent=100.0), full, PathPlan()):
        plan = replace(with_paths(node_plan(1), {0: path, 2: plain}), buffer_packets_down=33, down_bps=3_000_000)
        lab.apply(engine, [node_plan(0), plan])
        found = lab.agents[1].request("read_back")["paths"]
        for source, wanted in ((ADDRESSES[0], path), (ADDRESSES[2], plain)):
            got, fields = found.get(source, asdict(PathPlan())), asdict(wanted)
            assert flat(got) == pytest.approx(flat(fields), abs=0.001, rel=0.001), source


def flat(path: dict[str, Any]) -> dict[str, float]:
    bursts = path["bursts"] or {}
    numbers = {name: value for name, value in path.items() if isinstance(value, int | float)}
    return {**numbers, **{f"bursts.{name}": value for name, value in bursts.items()}}
