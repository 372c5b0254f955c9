"""A laboratory for links: nodes on a bridge in a sandbox, an agent in each, and tools that are not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import IO, Any

from gannet.netem.agent.client import AgentClient
from gannet.netem.links.plan import InterfacePlan, PathPlan, buffer_bytes, packet_segments
from gannet.netem.sandbox import Sandbox

ADDRESSES = ("10.77.1.10", "10.77.1.11", "10.77.1.12", "10.77.1.13")
WIDE_ADDRESSES = tuple(f"10.77.2.{10 + n}" for n in range(9))
TOOL = str(Path(__file__).with_name("wire_tool.py"))
RATE_TOOL = str(Path(__file__).with_name("rate_tool.py"))
# What a TCP segment (with timestamps) carries of the frame that the token buckets count.
TCP_SHARE = 1448 / 1514
# What an IP packet of full size is of that frame.
IP_SHARE = 1500 / 1514
INTERVAL_S = 0.25
# Its human words in JSON's stead, since a server that speaks JSON does not say when it is ready.
SERVER = ("iperf3", "-s", "-1", "-f", "k", "--forceflush", "-i", str(INTERVAL_S))
_INTERVAL = re.compile(r"^\[ *\d+\] +([\d.]+)-[\d.]+ +sec .*? ([\d.]+) Kbits/sec", re.MULTILINE)


def node_plan(
    rank: int,
    up_bps: int | None = None,
    down_bps: int | None = None,
    addresses: Sequence[str] = ADDRESSES,
    **path: Any,
) -> InterfacePlan:
    """A plan with equal paths from all other nodes and buffers of 100 ms."""
    link = PathPlan(**path)
    paths = {address: link for other, address in enumerate(addresses) if other != rank}
    segments = packet_segments([up_bps, down_bps], not link.is_whole)
    buffers = buffer_bytes(up_bps, 100), buffer_bytes(down_bps, 100)
    return InterfacePlan("mesh0", addresses[rank], up_bps, down_bps, *buffers, paths, segments, seed=7)


class Lab:
    """Some nodes, their agents, and measurements by iperf3 and wire_tool.py."""

    def __init__(self, sandbox: Sandbox, addresses: Sequence[str] = ADDRESSES) -> None:
        self.sandbox, self.addresses = sandbox, addresses
        sandbox.add_network(addresses)
        nodes = [f"node{rank}" for rank in range(len(addresses))]
        self.agents = [AgentClient.spawn(sandbox.prefix(node), node) for node in nodes]
        self._started: list[subprocess.Popen[str]] = []
        self._port = 9000

    def apply(self, engine: str, plans: Sequence[InterfacePlan]) -> None:
        for agent, plan in zip(self.agents, plans, strict=False):
            agent.request("apply", engine=engine, plan=plan.to_json())
            assert agent.request("read_back")["differences"] == []

    def endpoint(self, rank: int) -> str:
        """An address and a port that nothing has used yet."""
        self._port += 1
        return f"{self.addresses[rank]}:{self._port}"

    def start(self, rank: int, *argv: str) -> IO[str]:
        """Start a program on a node, wait for its first line, and return its output."""
        command = [*self.sandbox.prefix(f"node{rank}"), *argv]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process.stdout

    def tool(self, rank: int, *argv: object) -> str:
        return self.sandbox.run([sys.executable, TOOL, *map(str, argv)], f"node{rank}")

    def start_tool(self, rank: int, *argv: object) -> IO[str]:
        return self.start(rank, sys.executable, TOOL, *map(str, argv))

    def start_program(self, rank: int, *argv: str) -> subprocess.Popen[str]:
        """Start a program on a node without waiting for a word from it, nor listening to it."""
        process = subprocess.Popen([*self.sandbox.prefix(f"node{rank}"), *argv], stdout=subprocess.DEVNULL, text=True)
        self._started.append(process)
        return process

    def start_rate_tool(self, rank: int, *argv: object) -> IO[str]:
        return self.start(rank, sys.executable, RATE_TOOL, *map(str, argv))

    def start_rate_program(self, rank: int, *argv: object) -> subprocess.Popen[str]:
        """Start rate_tool.py on a node without waiting for a word from it."""
        return self.start_program(rank, sys.executable, RATE_TOOL, *map(str, argv))

    def start_background(self, rank: int, *argv: object) -> subprocess.Popen[str]:
        """Start wire_tool.py on a node, likewise."""
        return self.start_program(rank, sys.executable, TOOL, *map(str, argv))

    def tcp_bps(self, sender: int, receiver: int, seconds: int, block: str = "1K") -> float:
        """TCP goodput between two nodes as iperf3's receiver sees it, from its second second on.

        The median of half seconds: a moment in which the machine stands still, and TCP's recovery from it, are in few
        of them. iperf3 counts whole blocks of data, so that small ones tell slow rates.
        """
        return self._iperf_bps(sender, receiver, seconds, 0.5, "-l", block)

    def udp_bps(self, sender: int, receiver: int, seconds: int, offered_bps: int, size: int) -> float:
        """What arrives of a stream of datagrams with `size` bytes of payload, as tcp_bps."""
        window_s = max(0.5, 100 * 8 * size / offered_bps)
        return self._iperf_bps(sender, receiver, seconds, window_s, "-u", "-b", str(offered_bps), "-l", str(size))

    @staticmethod
    def intervals(output: str) -> list[tuple[str, str]]:
        """Begin (s) and goodput (kbit/s) of the intervals that iperf3's receiver reports."""
        return [(str(begin), str(kbps)) for begin, kbps in _INTERVAL.findall(output)]

    @classmethod
    def steady_bps(cls, output: str, window_s: float) -> float:
        """The median of what iperf3 reports from its second second on, over all windows of so long."""
        found = [1000 * float(kbps) for begin, kbps in cls.intervals(output) if float(begin) >= 1]
        count = round(window_s / INTERVAL_S)
        assert len(found) > count, output
        return median(fmean(found[first : first + count]) for first in range(len(found) - count + 1))

    def _iperf_bps(self, sender: int, receiver: int, seconds: int, window_s: float, *options: str) -> float:
        address, port = self.endpoint(receiver).split(":")
        output = self.start(receiver, *SERVER, "-p", port)
        argv = ["iperf3", "-c", address, "-p", port, "-t", str(seconds + 1), *options]
        client = subprocess.Popen([*self.sandbox.prefix(f"node{sender}"), *argv], stdout=subprocess.PIPE, text=True)
        self._started.append(client)
        client.communicate(timeout=seconds + 240)
        return self.steady_bps(output.read(), window_s)

    def fan_in_bps(self, senders: Sequence[int], receiver: int, seconds: int) -> float:
        """IP packets that arrive at one node while all senders send to it at once, by the kernel's count.

        Not the sum of several iperf3 results: each averages over a time of its own, and on a slow machine
        those times differ enough to add up to more than the link can carry.
        """
        endpoint = self.endpoint(receiver)
        gathered = self.start_tool(receiver, "gather", endpoint, len(senders), seconds)
        for sender in senders:
            self.start_background(sender, "flood", endpoint, 0, 0)
        return float(gathered.readline())

    def clear_tools(self) -> None:
        """End what the test started."""
        for process in self._started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._started.clear()

    def clear(self) -> None:
        """End what the test started and remove all links."""
        self.clear_tools()
        for agent in self.agents:
            agent.request("clear")

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
