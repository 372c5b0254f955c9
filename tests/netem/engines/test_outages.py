"""Outages that keep what is sent, and rates that count IP packets: by plain sockets, in every engine."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import pytest

from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.profile import parse_rate_bps
from tests.netem.link_lab import RATE_TOOL, Lab, node_plan
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")
SIZE = 1000
FRAME = SIZE + 20 + 42  # its stamp, and the headers of UDP, IPv4 and Ethernet


def plans(**changes: object) -> list[InterfacePlan]:
    return [replace(node_plan(rank, 10_000_000, 10_000_000, delay_ms=5), **changes) for rank in range(2)]


def held(normal: list[InterfacePlan], way: str) -> list[InterfacePlan]:
    """The sender's uplink is held, or the receiver's downlink."""
    rank = 0 if way == "up" else 1
    return [replace(plan, **{f"{way}_held": plan is normal[rank]}) for plan in normal]


def sent_in_an_outage(lab: Lab, engine: str, normal: list[InterfacePlan], way: str, count: int) -> list[list[float]]:
    """[number, one-way ms] of datagrams that are sent in an outage, of which the last is a second old at its end."""
    lab.apply(engine, normal)
    endpoint = lab.endpoint(1)
    sink = lab.start_tool(1, "sink", endpoint, count, 4)
    lab.apply(engine, held(normal, way))
    lab.tool(0, "send", endpoint, count, 1, SIZE)
    time.sleep(1)
    lab.apply(engine, normal)  # after which nothing more is sent that could wake a queue
    rows: list[list[float]] = json.loads(sink.readline())
    return rows


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_is_sent_in_an_outage_arrives_after_it(lab: Lab, engine: str, way: str) -> None:
    rows = sent_in_an_outage(lab, engine, plans(), way, 60)
    assert [number for number, _ in rows] == list(range(60))
    # The packet whose transmission has begun may still pass.
    assert [one_way_ms < 1000 for _, one_way_ms in rows[1:]] == [False] * 59


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_outage_keeps_as_much_as_the_buffer_holds(lab: Lab, engine: str, way: str) -> None:
    room = 30 * FRAME
    rows = sent_in_an_outage(lab, engine, plans(buffer_bytes_up=room, buffer_bytes_down=room), way, 100)
    # And the one that has begun, and the one that the queue in front has already taken.
    assert [number for number, _ in rows] == list(range(len(rows))) and 30 <= len(rows) <= 32


def test_rates_change_and_outages_come_and_go_without_a_loss(lab: Lab, engine: str) -> None:
    """A stream over a link that changes every 40 ms between three rates and outages loses and reorders nothing."""
    normal = plans(buffer_bytes_up=10**6, buffer_bytes_down=10**6)
    slow = [replace(plan, up_bps=4_000_000, down_bps=6_000_000) for plan in normal]
    lab.apply(engine, normal)
    endpoint = lab.endpoint(1)
    sink = lab.start_tool(1, "sink", endpoint, 1500, 4)
    sender = lab.start_background(0, "send", endpoint, 1500, 2, SIZE - 800)
    while sender.poll() is None:
        for state in (held(normal, "up"), slow, held(slow, "down"), held(slow, "up"), normal, held(normal, "down")):
            for agent, plan in zip(lab.agents, state, strict=False):
                agent.request("apply", engine=engine, plan=plan.to_json(), check=False)
            time.sleep(0.04)
    lab.apply(engine, normal)
    assert [number for number, _ in json.loads(sink.readline())] == list(range(1500))


def test_a_hold_that_another_program_ends_is_restored(lab: Lab, engine: str) -> None:
    normal = plans()
    lab.apply(engine, held(normal, "up"))
    lab.sandbox.run("tc qdisc replace dev mesh0 root handle fff3: tbf rate 1tbit burst 1514 limit 100000000", "node0")
    assert seen_right(lambda: lab.agents[0].request("read_back")["differences"], lambda found: found == []) == []
    assert "rate 8bit" in lab.sandbox.run("tc qdisc show dev mesh0", "node0")
    repairs = lab.agents[0].request("counters")["repairs"]
    assert any("mesh0" in repair["what"] or "held" in repair["what"] for repair in repairs)


def test_a_rate_of_ip_packets_passes_as_many_full_ones_as_mahimahis(lab: Lab, engine: str) -> None:
    """12 Mbit/s of IP: one packet of 1500 bytes a millisecond, within 0.1%."""
    rate_bps = parse_rate_bps("12Mbit IP")
    lab.apply(engine, [node_plan(rank, rate_bps, rate_bps, delay_ms=1) for rank in range(2)])

    def packets_per_s() -> float:
        endpoint = lab.endpoint(1)
        caught = lab.start(1, sys.executable, RATE_TOOL, "catch", endpoint, "2")
        lab.start_rate_program(0, "pour", endpoint, 6, 20_000_000).wait()
        came_s = [came for came, _ in json.loads(caught.readline())][1000:]
        return (len(came_s) - 1) / (came_s[-1] - came_s[0])

    assert seen_right(packets_per_s, lambda rate: rate == pytest.approx(1000, rel=0.001))
