"""What is queued, lost and counted is frames as they cross the wire, whatever packets a program or the kernel makes.

Judges are plain sockets and the kernel's counters; see conformance.py for the tolerances.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netem import burst_tool
from tests.netem.engines.conformance import confidence
from tests.netem.link_lab import Lab, node_plan
from tests.netem.statistic import binomial_interval

pytestmark = pytest.mark.real("links")

TOOL = str(Path(burst_tool.__file__))
MBIT = 1_000_000
HEADERS = 42  # of Ethernet, IPv4 and UDP
# As Docker sets it up in a container for its DNS: with it the kernel tracks connections, and puts fragments together
# before any rule sees them.
TRACKED = "iptables -t nat -{} OUTPUT -d 127.0.0.11 -p udp -j DNAT --to-destination 127.0.0.11:5353"


@pytest.fixture(params=[False, True], ids=["untracked", "tracked"])
def tracking(request: pytest.FixtureRequest, lab: Lab) -> Iterator[bool]:
    """Whether node 1 tracks connections. What waits for lost fragments has room: 4 MB otherwise, for 30 s."""
    lab.sandbox.run("sysctl -w net.ipv4.ipfrag_high_thresh=100000000", "node1")
    if request.param:
        lab.sandbox.run(TRACKED.format("A"), "node1")
    yield request.param
    if request.param:
        lab.sandbox.run(TRACKED.format("D"), "node1")


def sent(lab: Lab, bursts: int, number: int, size: int, interval_ms: float, *single: str) -> dict[int, int]:
    """How many datagrams of which size came from node 0 to node 1."""
    endpoint = lab.endpoint(1)
    output = lab.start(1, sys.executable, TOOL, "count", endpoint, "2")
    words = ["send", endpoint, str(bursts), str(number), str(size), str(interval_ms), *single]
    lab.sandbox.run([sys.executable, TOOL, *words], "node0")
    return {int(size): count for size, count in json.loads(output.readline()).items()}


def udp_counters(lab: Lab) -> dict[str, int]:
    """Of node 1's kernel, for datagrams."""
    lines = [line.split() for line in lab.sandbox.run("cat /proc/net/snmp", "node1").splitlines()]
    names, values = (line[1:] for line in lines if line[0] == "Udp:")
    return dict(zip(names, map(int, values), strict=True))


def uplink_class_bytes(lab: Lab, rank: int = 0) -> int:
    shown = re.search(
        r"class htb \S+ .*\n Sent (\d+) bytes", lab.sandbox.run("tc -s class show dev mesh0", f"node{rank}")
    )
    assert shown
    return int(shown[1])


def device_bytes(lab: Lab, rank: int = 0) -> int:
    return int(json.loads(lab.sandbox.run("ip -s -j link show mesh0", f"node{rank}"))[0]["stats64"]["tx"]["bytes"])


@pytest.mark.parametrize("mbit", [1, 10, 100])
def test_a_burst_in_one_packet_is_queued_frame_by_frame(lab: Lab, engine: str, mbit: int) -> None:
    """20 datagrams of 1400 bytes in one packet of 28 kB: the buffer of 15 kB takes ten, the link the rest, as of
    those that are sent one by one.
    """
    lab.apply(engine, [node_plan(rank, mbit * MBIT, mbit * MBIT, delay_ms=5) for rank in range(2)])
    room = 10 if mbit == 1 else 20
    for _ in range(3):
        found = sent(lab, 4, 20, 1400, 600)
        assert found.keys() == {1400} and 4 * room <= found[1400] <= 4 * (room + 2) and found[1400] <= 80
    assert sent(lab, 4, 20, 1400, 600, "single")[1400] >= 4 * room


def test_large_packets_that_arrive_are_queued_frame_by_frame(lab: Lab, engine: str) -> None:
    """From a sender that nothing shapes, as those that a network device has merged (GRO)."""
    lab.agents[1].request("apply", engine=engine, plan=node_plan(1, MBIT, MBIT, delay_ms=5).to_json())
    assert 40 <= sent(lab, 4, 20, 1400, 600)[1400] <= 48


def test_large_packets_keep_the_rate(lab: Lab, engine: str) -> None:
    """Headers of all their frames count: 200 datagrams of 200 bytes in each packet, offered twice as fast as the
    link sends.
    """
    lab.apply(engine, [node_plan(0, 2 * MBIT), node_plan(1)])
    before = uplink_class_bytes(lab)
    received = sent(lab, 20, 60, 200, 25)[200]
    frames = (uplink_class_bytes(lab) - before) / (200 + HEADERS)
    assert received == pytest.approx(frames, abs=20)  # and neighbour discoveries


def test_each_fragment_is_lost_by_itself(lab: Lab, engine: str, tracking: bool) -> None:
    """Datagrams in 6 fragments arrive if none of these is lost: 0.9⁶ of them, where 10% of frames are lost."""
    lab.apply(engine, [node_plan(0), node_plan(1, delay_ms=5, loss_percent=10.0)])
    count = 1000
    low, high = binomial_interval(count, 0.9**6, confidence(engine))
    assert low <= sent(lab, count, 1, 8000, 2, "single")[8000] <= high


def test_the_largest_datagrams_are_corrupted_too(lab: Lab, engine: str, tracking: bool) -> None:
    lab.apply(engine, [node_plan(0), node_plan(1, delay_ms=5, corrupt_percent=100.0)])
    before = udp_counters(lab)
    assert sent(lab, 30, 1, 65_000, 10, "single") == {}
    after = udp_counters(lab)
    assert after["InDatagrams"] == before["InDatagrams"]
    if engine == "nfqueue":  # netem flips bits of IP headers as well
        assert after["InCsumErrors"] - before["InCsumErrors"] == after["InErrors"] - before["InErrors"] == 30


def test_each_fragment_is_corrupted_by_itself(lab: Lab, engine: str, tracking: bool) -> None:
    lab.apply(engine, [node_plan(0), node_plan(1, delay_ms=5, corrupt_percent=10.0)])
    count = 1000
    low, high = binomial_interval(count, 0.9**6, confidence(engine))
    assert low <= sent(lab, count, 1, 8000, 2, "single")[8000] <= high


def test_bytes_sent_are_those_of_the_frames(lab: Lab, engine: str) -> None:
    """On a fast link, whose packets hold up to 40 segments: a device counts one header for each of these."""
    lab.apply(engine, [node_plan(rank, 1000 * MBIT, 1000 * MBIT) for rank in range(2)])
    counted = lab.agents[0].request("counters")["tx_bytes"], lab.agents[1].request("counters")["rx_bytes"]
    classes, device = uplink_class_bytes(lab), device_bytes(lab)
    goodput_bps = lab.tcp_bps(0, 1, 2, "128K")
    assert goodput_bps > 0
    by_class = uplink_class_bytes(lab) - classes
    tx = lab.agents[0].request("counters")["tx_bytes"] - counted[0]
    rx = lab.agents[1].request("counters")["rx_bytes"] - counted[1]
    assert tx == by_class and 0.99 * tx <= rx <= tx + 100_000  # some may have been lost
    assert device_bytes(lab) - device < 0.97 * tx  # what it takes the device for


def test_bytes_never_fall_when_queues_are_made_anew(lab: Lab, engine: str) -> None:
    plans = [node_plan(rank, 10 * MBIT, 10 * MBIT, delay_ms=1) for rank in range(2)]

    def change(what: Callable[[], object]) -> None:
        before = lab.agents[0].request("counters")
        what()
        after = lab.agents[0].request("counters")
        assert before["tx_bytes"] <= after["tx_bytes"] <= before["tx_bytes"] + 10_000
        assert before["rx_bytes"] <= after["rx_bytes"] <= before["rx_bytes"] + 10_000

    lab.apply(engine, plans)
    begun = lab.agents[0].request("counters")["tx_bytes"]
    total = 0
    for what in (
        lambda: lab.apply(engine, [node_plan(0, None, None), plans[1]]),
        lambda: lab.apply(engine, [node_plan(0, 500 * MBIT, 500 * MBIT), plans[1]]),
        lambda: lab.sandbox.run("tc qdisc del dev mesh0 root", "node0"),
        lambda: (lab.agents[0].request("clear"), lab.apply(engine, plans)),
    ):
        sent(lab, 1, 8, 1000, 0, "single")
        total += 8 * (1000 + HEADERS)
        change(what)
    assert lab.agents[0].request("counters")["tx_bytes"] - begun == pytest.approx(total, abs=5_000)
