"""Nodes on a bridge, iperf3 and echoes between them, and what that costs the machine's processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from gannet.netem.agent.client import AgentClient
from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import InterfacePlan, PathLimit, network_plan
from gannet.netem.links.profile import LinkProfile
from gannet.netem.sandbox import Sandbox, SandboxError

DEVICE = "mesh0"
_HERE = Path(__file__).parent
_TOOL = str(_HERE.parents[1] / "tests/netem/wire_tool.py")
_TICKS, _CPUS = os.sysconf("SC_CLK_TCK"), os.cpu_count() or 1
_ECHOES, _ECHO_MS = 41, 20
# TCP's payload in a full frame with time stamps, and the bytes that an interface counts in addition for every packet.
PAYLOAD_BYTES, _HEADER_BYTES = 1448, 66


def addresses_of(world: int) -> list[str]:
    """Nodes' addresses in a sandbox's /16."""
    return [f"10.77.1.{10 + rank}" for rank in range(world)]


def plans_of(world: int, rate_bps: int | None, delay_ms: float) -> list[InterfacePlan]:
    """The plans of a network whose nodes all have one profile."""
    profile = LinkProfile(
        name="bench", down_bps=rate_bps, up_bps=rate_bps, down_delay_ms=delay_ms, up_delay_ms=delay_ms
    )
    return list(network_plan(profile, {}, {}, addresses_of(world), DEVICE))


class Lab:
    """`world` nodes; node 1 receives, and every cost is that of the whole machine."""

    def __init__(self, sandbox: Sandbox, world: int) -> None:
        self.sandbox, self.world, self.addresses = sandbox, world, addresses_of(world)
        sandbox.add_network(self.addresses)
        self._port = 9000

    def start(self, rank: int, *argv: str) -> subprocess.Popen[str]:
        """A program on a node, once it has printed its first line."""
        process = subprocess.Popen(
            [*self.sandbox.prefix(f"node{rank}"), *argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{argv[0]} on node {rank} ended at once")
        return process

    def one_way_ms(self, sender: int, receiver: int) -> list[float]:
        """Delays of single datagrams from one node to another, by plain sockets."""
        endpoint = self._endpoint(receiver)
        echo = self.start(receiver, sys.executable, _TOOL, "echo", endpoint)
        try:
            ask = [sys.executable, _TOOL, "ask", endpoint, str(_ECHOES), str(_ECHO_MS)]
            return [there for there, _ in json.loads(self.sandbox.run(ask, f"node{sender}"))]
        finally:
            end(echo)

    def iperf3(self, sender: int, receiver: int, *options: str) -> float:
        """Goodput, bit/s, as the receiver's iperf3 has it."""
        address, port = self._endpoint(receiver).split(":")
        server = self.start(receiver, "iperf3", "-s", "-1", "-p", port, "--forceflush")
        try:
            argv = ["iperf3", "-c", address, "-p", port, "-J", *options]
            said = json.loads(self.sandbox.run(argv, f"node{sender}", timeout_s=180))
        finally:
            end(server)
        total = said["end"].get("sum_received") or said["end"]["sum"]
        return float(total["bits_per_second"])

    def received(self, rank: int) -> tuple[int, float]:
        """Traffic received by a node's interface: packets (each may hold several segments) and full frames' worth."""
        shown = json.loads(self.sandbox.run(f"ip -s -j link show dev {DEVICE}", f"node{rank}"))
        count = shown[0]["stats64"]["rx"]
        return int(count["packets"]), (count["bytes"] - _HEADER_BYTES * count["packets"]) / PAYLOAD_BYTES

    def _endpoint(self, rank: int) -> str:
        self._port += 1
        return f"{self.addresses[rank]}:{self._port}"


def end(process: subprocess.Popen[str]) -> None:
    """End a program that `Lab.start` started."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


class Nothing:
    """The veth pair and the bridge alone: what all others add to."""

    name = "no emulation"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def put(self, rate_bps: int | None, delay_ms: float) -> None:
        """Links as wanted at nodes 0 and 1, in place of those before."""

    def processes(self) -> list[int]:
        """Pids of the processes that serve the links in user space."""
        return []

    def clear(self) -> None:
        """Restore the bare links."""


class Engine(Nothing):
    """One of this project's engines behind its agents, as every run has it."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab)
        self.name, self.engine = f"engine {name}", name
        self.agents = [AgentClient.spawn(lab.sandbox.prefix(f"node{rank}"), f"node {rank}") for rank in range(2)]

    def plans(self, rate_bps: int | None, delay_ms: float) -> list[InterfacePlan]:
        """The plans of all nodes."""
        return plans_of(self.lab.world, rate_bps, delay_ms)

    def put(self, rate_bps: int | None, delay_ms: float) -> None:
        for agent, plan in zip(self.agents, self.plans(rate_bps, delay_ms), strict=False):
            agent.request("apply", engine=self.engine, plan=plan.to_json())
            if differences := agent.request("read_back")["differences"]:
                raise RuntimeError(f"{self.name}: {differences}")

    def processes(self) -> list[int]:
        return descendants([agent.process.pid for agent in self.agents])

    def clear(self) -> None:
        for agent in self.agents:
            agent.request("clear")

    def close(self) -> None:
        """End the agents."""
        for agent in self.agents:
            agent.close()


class PairRates(Engine):
    """The same, where each path into node 1 has a rate of its own, 0.6 of the node's."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self.name = "a rate for each pair"

    def plans(self, rate_bps: int | None, delay_ms: float) -> list[InterfacePlan]:
        found = super().plans(rate_bps, delay_ms)
        assert rate_bps is not None
        limit = PathLimit(int(0.6 * rate_bps), found[1].buffer_bytes_down)
        return [found[0], replace(found[1], limits=dict.fromkeys(found[1].paths, limit)), *found[2:]]


class OneSharedLink(Engine):
    """The same, where all paths into node 1 share a link of 0.6 of its rate."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self.name = "one link that all share"

    def plans(self, rate_bps: int | None, delay_ms: float) -> list[InterfacePlan]:
        found = super().plans(rate_bps, delay_ms)
        assert rate_bps is not None
        peers = tuple(found[1].paths)
        shared = SharedLimit(0, int(0.6 * rate_bps), found[1].buffer_bytes_down, peers, len(peers), "receiver")
        return [found[0], replace(found[1], shared_in=(shared,)), *found[2:]]


class Prototype(Nothing):
    """The loop of nfqueue_prototype.py, and a token bucket at each sender."""

    name = "Python prototype"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._running: list[subprocess.Popen[str]] = []

    def put(self, rate_bps: int | None, delay_ms: float) -> None:
        self.clear()
        for rank in range(2):
            if rate_bps is not None:
                tbf = f"tc qdisc replace dev {DEVICE} root tbf rate {rate_bps}bit burst 32kb latency 100ms"
                self.lab.sandbox.run(tbf, f"node{rank}")
            script = str(_HERE / "nfqueue_prototype.py")
            self._running.append(self.lab.start(rank, sys.executable, script, "7", str(delay_ms)))
            self.lab.sandbox.run(f"iptables -t mangle -A INPUT -i {DEVICE} -j NFQUEUE --queue-num 7", f"node{rank}")

    def processes(self) -> list[int]:
        return descendants([process.pid for process in self._running])

    def clear(self) -> None:
        for rank in range(2):
            for words in ("iptables -t mangle -F INPUT", f"tc qdisc del dev {DEVICE} root"):
                with suppress(SandboxError):  # what is not there need not go
                    self.lab.sandbox.run(words, f"node{rank}")
        while self._running:
            end(self._running.pop())


def plain_netem(rate_bps: int | None, delay_ms: float) -> str:
    """The command of every recipe: one netem qdisc at the sender, its limit as it comes."""
    rate = f" rate {rate_bps}bit" if rate_bps is not None else ""
    return f"tc qdisc replace dev {DEVICE} root netem delay {delay_ms}ms{rate}"


class PlainNetem(Nothing):
    """`plain_netem` at both nodes."""

    name = "plain tc netem"

    def put(self, rate_bps: int | None, delay_ms: float) -> None:
        for rank in range(2):
            self.lab.sandbox.run(plain_netem(rate_bps, delay_ms), f"node{rank}")

    def clear(self) -> None:
        for rank in range(2):
            with suppress(SandboxError):
                self.lab.sandbox.run(f"tc qdisc del dev {DEVICE} root", f"node{rank}")


class PlainPeers(Nothing):
    """The usual recipe for a different delay to every peer: at the sender, which is the last node, a class of HTB
    with a netem for each of the others, and u32 filters by address, node 1's the last of them."""

    name = "plain tc, u32"

    def put(self, rate_bps: int | None, delay_ms: float) -> None:
        peers = [*range(2, self.lab.world - 1), 0, 1]
        lines = [f"qdisc replace dev {DEVICE} root handle 1: htb"]
        for number, rank in enumerate(peers, start=2):
            here = f"dev {DEVICE} parent 1: classid 1:{number:x}"
            lines += [f"class add {here} htb rate {rate_bps or 10**11}bit quantum 1514"]
            lines += [f"qdisc add dev {DEVICE} parent 1:{number:x} handle {number:x}: netem delay {delay_ms}ms"]
            match = f"protocol ip parent 1: prio 1 u32 match ip dst {self.lab.addresses[rank]}/32"
            lines += [f"filter add dev {DEVICE} {match} flowid 1:{number:x}"]
        self.lab.sandbox.run(["tc", "-batch", "-"], f"node{self.lab.world - 1}", stdin="\n".join(lines) + "\n")

    def clear(self) -> None:
        self.lab.sandbox.run(f"tc qdisc del dev {DEVICE} root", f"node{self.lab.world - 1}")


@dataclass(frozen=True)
class Carried:
    """Performance and cost of one link. Shares are of one processor; µs a packet: processes and softirq together.

    `machine_share` and `us_per_frame` (of full frames' worth of data) count all processor time, including the
    programs that generate the traffic and any others that ran.
    """

    who: str
    rate_bps: int | None
    delay_ms: float
    goodput_bps: float
    one_way_ms: float
    processes_share: float
    softirq_share: float
    packets: int
    us_per_packet: float
    machine_share: float
    us_per_frame: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def carry(
    who: Nothing, rate_bps: int | None, delay_ms: float, options: list[str], seconds: int, sender: int = 0
) -> Carried:
    """Apply a link, echo over it while it is idle, then fill it, and count the resources used."""
    lab = who.lab
    who.put(rate_bps, delay_ms)
    try:
        one_way_ms = median(lab.one_way_ms(sender, 1))
        pids = who.processes()
        (packets, frames), begin_s = lab.received(1), time.monotonic()
        cpu_s, soft_s, idle_s = processes_s(pids), softirq_s(), all_idle_s()
        goodput_bps = lab.iperf3(sender, 1, "-t", str(seconds), *options)
        took_s = time.monotonic() - begin_s
        cpu_s, soft_s = processes_s(pids) - cpu_s, softirq_s() - soft_s
        busy_s = max(0.0, took_s * _CPUS - (all_idle_s() - idle_s))
        packets, frames = lab.received(1)[0] - packets, lab.received(1)[1] - frames
    finally:
        who.clear()
    us = 1e6 * (cpu_s + soft_s) / max(1, packets)
    costs = (cpu_s / took_s, soft_s / took_s, packets, us, busy_s / took_s, 1e6 * busy_s / max(1, frames))
    return Carried(who.name, rate_bps, delay_ms, goodput_bps, one_way_ms, *costs)


def descendants(pids: list[int]) -> list[int]:
    """These processes and all that came of them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, look = [], list(pids)
    while look:
        found.append(look.pop())
        look += children.get(found[-1], [])
    return found


def processes_s(pids: list[int]) -> float:
    """Processor seconds that these processes have taken, in user space and in the kernel."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def softirq_s() -> float:
    """Processor seconds of interrupts' work in the kernel (irq and softirq of /proc/stat), of the whole machine."""
    fields = _machine_ticks()
    return (fields[5] + fields[6]) / _TICKS


def all_idle_s() -> float:
    """Seconds that processors had nothing to do, summed over all of them; waiting for a disk is that too."""
    fields = _machine_ticks()
    return (fields[3] + fields[4]) / _TICKS


def _machine_ticks() -> list[int]:
    return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
