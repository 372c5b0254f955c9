"""The interface of a link engine, and how engines run the commands that a plan amounts to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from struct import unpack_from
from typing import Any, Protocol

from gannet.netem.engines import netlink
from gannet.netem.engines.netlink import Node
from gannet.netem.engines.wake import wake
from gannet.netem.links.plan import FRAME_BYTES, InterfacePlan
from gannet.netem.process import complaint
from gannet.netem.shaping.commands import Applied, Command, EngineName, apply_commands, clear_commands, ifb_name
from gannet.netem.shaping.lines import BUCKET, CLASSIFIER, HELD_BPS, SPLITTER, UNLIMITED_BPS


class EngineError(RuntimeError):
    """A plan could not be applied; the message names the command, its complaint and a remedy."""


class Engine(Protocol):
    """Applies plans to the devices of the network namespace that the process runs in."""

    name: EngineName

    def apply(self, plan: InterfacePlan, release: bool = False) -> None:
        """Bring the plan's device to `plan`, idempotently and without dropping queued packets.

        Packets of a path keep their order, so one whose delay shrinks delivers nothing until the packets in flight
        have had their old delay. `release`: do not wait for them. Engine nfqueue then delivers them within the new
        delay; engine netem, where the kernel cannot do that, loses them.
        """

    def clear(self) -> None:
        """Remove everything this engine has applied; nothing to remove is no error."""

    def forget(self) -> None:
        """Treat the applied state as unknown: the next `apply` rebuilds it."""

    def paths(self) -> dict[str, dict[str, Any]]:
        """Each source's path as it is applied, in the fields of PathPlan; ideal paths may be left out."""

    def classes(self) -> dict[str, dict[str, int]]:
        """Cumulative counters of every source that has a delay line: `bytes` and `packets` that it took, `dropped`
        packets (lost as planned, or for want of room), and `backlog_bytes` and `backlog_packets` in flight.
        """

    def lateness(self) -> dict[str, Any]:
        """How late packets were released since the last call (empty for an engine in the kernel)."""


_TIMEOUT_S = 30
_REMEDIES = {
    "iptables": "apt-get install iptables",
    "iptables-restore": "apt-get install iptables",
    "ip": "apt-get install iproute2",
    "tc": "apt-get install iproute2",
}
_FAILED_LINE = re.compile(r"Command failed -:(\d+)")


def run(command: Command) -> str:
    """Run one command and return its output; EngineError unless it succeeds or may fail."""
    if command.changes:
        try:
            netlink.change(command.changes)
        except OSError as error:
            raise EngineError(f"{error} (netlink)") from error
        return ""
    try:
        done = subprocess.run(
            command.argv, input=command.stdin or "", capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except FileNotFoundError as error:
        if command.may_fail:  # a program that is not installed has left nothing to remove
            return ""
        remedy = _REMEDIES.get(command.argv[0], "install it")
        raise EngineError(f"{command.argv[0]} is not installed: {remedy}") from error
    if done.returncode != 0 and not command.may_fail:
        raise EngineError(_complaint(command, complaint(done)))
    return done.stdout


def _complaint(command: Command, said: str) -> str:
    """What failed (of a batch, which line), and the module that the kernel lacks where that is the reason."""
    line = str(command)
    failed = _FAILED_LINE.search(said)
    if failed and command.stdin:
        line = f"{command.argv[0]} {command.stdin.splitlines()[int(failed[1]) - 1]}"
    kind = re.search(r"\b(netem|tbf|htb|bfifo|pfifo|codel|fq_codel|sfq|ingress)\b", line.partition(" dev ")[2])
    if "qdisc kind is unknown" in said and kind:
        missing = f"sch_{kind[1]}"
        return f"this kernel has no {missing} (try `modprobe {missing}`, or choose another queue): `{line}`"
    for word, module in (("bpf", "cls_bpf"), ("TEE", "xt_TEE"), ("statistic", "xt_statistic"), ("u32", "cls_u32")):
        if re.search(rf"\b{word}\b", line if failed else said):
            return f"`{line}` failed: {said} (if the kernel lacks it: modprobe {module})"
    return f"`{line}` failed: {said}"


def run_all(commands: Iterable[Command]) -> None:
    """Run commands in order, up to the first that fails."""
    for command in commands:
        run(command)


def read_buckets(device: str) -> dict[str, dict[str, Any] | None]:
    """The applied token buckets as `up` and `down`; None: no cap.

    Each has rate_bps, buffer_bytes, buffer_packets (None where bytes count), queue (its kind, as in InterfacePlan),
    per_source (whether each source has its own), held (whether nothing passes),
    and the counters dropped (for want of room) and backlog_bytes.
    """
    return {"up": _bucket(device), "down": _bucket(ifb_name(device))}


def read_limits(device: str) -> dict[int, dict[str, Any]]:
    """The applied limits of single classes of a device's classifier, by their numbers: rate_bps, buffer_bytes,
    buffer_packets, queue. Of the IFB's, sources and the shared links that end there; of the interface's, those that
    begin there.
    """
    rates = _source_rates(device)
    leaves = _leaves(netlink.qdiscs(device)) if rates else {}
    return {n: {"rate_bps": rate_bps, **_queue(leaves.get(n, []))} for n, rate_bps in rates.items()}


def _source_rates(ifb: str) -> dict[int, int]:
    """The rates of the classifier's limited classes."""
    found = {
        node.handle & 0xFFFF: netlink.class_rate_bps(node)
        for node in netlink.classes(ifb)
        if node.handle >> 16 == CLASSIFIER
    }
    return {number: rate_bps for number, rate_bps in found.items() if rate_bps < UNLIMITED_BPS}


def strangers(device: str) -> int:
    """IPv4 packets that arrived on a device since its links were built, from no address of the plan, and were
    dropped (see gannet.netem.shaping.programs.fence).
    """
    return sum(node.dropped for node in netlink.qdiscs(device) if node.kind == "ingress")


def _bucket(device: str) -> dict[str, Any] | None:
    qdiscs = netlink.qdiscs(device)
    root = next((node for node in qdiscs if node.handle == BUCKET << 16 and node.kind == "htb"), None)
    if root is None:
        return None
    rates = [node for node in netlink.classes(device) if node.handle == BUCKET << 16 | 1]
    rate_bps = netlink.class_rate_bps(rates[0]) if rates else UNLIMITED_BPS
    if rate_bps >= UNLIMITED_BPS:
        return None
    # Sources with a limit of their own have a buffer of their own.
    apart = _source_rates(device)
    leaves = [leaf for source, found in _leaves(qdiscs).items() if source not in apart for leaf in found]
    gate = next((node for node in qdiscs if node.handle == SPLITTER << 16 and node.kind == "tbf"), None)
    return {
        "rate_bps": rate_bps,
        "held": gate is not None and netlink.tbf_rate_bps(gate) <= HELD_BPS,
        **_queue(leaves),
        "per_source": any(node.handle == CLASSIFIER << 16 for node in qdiscs),
        "dropped": root.dropped,
        "backlog_bytes": root.backlog_bytes,
    }


def _leaves(qdiscs: Sequence[Node]) -> dict[int | None, list[Node]]:
    """The buffers by the numbers of their sources; None: the one below the bucket, where sources share it.

    They hang below the classifier's classes, or below the delay lines there.
    """
    above = {node.handle >> 16: node for node in qdiscs if node.kind == "netem"}
    found: dict[int | None, list[Node]] = {}
    for leaf in (node for node in qdiscs if node.kind not in ("netem", "htb")):
        top = leaf
        while (major := top.parent >> 16) in above:
            top = above[major]
        if top.parent == BUCKET << 16 | 1:
            found.setdefault(None, []).append(leaf)
        elif top.parent >> 16 == CLASSIFIER:
            found.setdefault(top.parent & 0xFFFF, []).append(leaf)
    return found


def _queue(leaves: Sequence[Node]) -> dict[str, Any]:
    """Kind and size of the buffers, which are all alike as long as no other program touches them."""
    kinds = {node.kind for node in leaves}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    limits = {_limit(node) for node in leaves}
    limit = limits.pop() if len(limits) == 1 else 0
    if kind == "bfifo":
        return {"queue": "fifo", "buffer_bytes": limit, "buffer_packets": None}
    queue = "fifo" if kind == "pfifo" else kind
    return {"queue": queue, "buffer_bytes": limit * FRAME_BYTES, "buffer_packets": limit}


def _limit(leaf: Node) -> int:
    """The limit of a queue in bytes (bfifo) or packets."""
    if leaf.kind in ("bfifo", "pfifo"):
        return int(unpack_from("=I", leaf.options)[0])
    if leaf.kind == "sfq":  # struct tc_sfq_qopt: quantum, perturb_period, limit
        return int(unpack_from("=I", leaf.options, 8)[0])
    options = netlink.attributes(leaf.options)
    return int(unpack_from("=I", options.get(2, bytes(4)))[0])  # TCA_CODEL_LIMIT, TCA_FQ_CODEL_LIMIT


class Interface:
    """One device as an engine's commands have left it: `applied` (None: unknown or nothing)."""

    def __init__(self, engine: EngineName) -> None:
        self.applied: Applied | None = None
        self._engine = engine
        self._device: str | None = None

    @property
    def plan(self) -> InterfacePlan | None:
        """The applied plan, if any."""
        return self.applied.plan if self.applied else None

    def apply(self, plan: InterfacePlan, seeded: bool = False, release: bool = False) -> None:
        """Run the commands that lead from the applied plan to this one; `seeded`, `release`: see apply_commands."""
        if self._device != plan.device:
            self.clear()
        self._device = plan.device
        commands, after = apply_commands(plan, self._engine, self.applied, seeded, release)
        # Until all commands are through, what is applied is unknown, and the next apply rebuilds everything.
        before, self.applied = self.applied, None
        run_all(commands)
        self.applied = after
        if before is not None:
            for device, was, held in (
                (plan.device, before.plan.up_held, plan.up_held),
                (ifb_name(plan.device), before.plan.down_held, plan.down_held),
            ):
                if was and not held:
                    wake(device, plan.address)

    def forget(self) -> None:
        """Treat the applied state as unknown from now on."""
        self.applied = None

    def clear(self) -> None:
        """Remove everything that was put on the device; EngineError if something stays."""
        if self._device is None:
            return
        run_all(clear_commands(self._device))
        left = [name for name in (self._device, ifb_name(self._device)) if _stands(name)]
        if left:
            raise EngineError(f"could not remove the limits of {' and '.join(left)}")
        self._device, self.applied = None, None


def _stands(device: str) -> bool:
    return any(node.handle in (SPLITTER << 16, BUCKET << 16, CLASSIFIER << 16) for node in netlink.qdiscs(device))
