"""Engine nfqueue: rates by tc, duplicates by iptables, all else by a process that holds packets in NFQUEUE.

It needs no sch_netem, which many kernels lack (WSL 2, container hosts, small virtual machines), and works rootless.
The process runs at the highest priority allowed, because releasing a packet late makes the link longer.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gannet.netem.child import Child, ChildError
from gannet.netem.engines.base import EngineError, Interface, run
from gannet.netem.engines.netem import applied_duplicates
from gannet.netem.links.plan import InterfacePlan, PathPlan
from gannet.netem.shaping.commands import Command, EngineName
from gannet.netem.shaping.rules import hook_rules, parent_rules, queue_rules, source_numbers
from gannet.netem.shaping.tc import wire_limit_packets
from gannet.netem.shaping.unsupported import unsupported

_QUEUES = Path("/proc/self/net/netfilter/nfnetlink_queue")


class NfqueueEngine:
    """Rate limits in the kernel, delay lines in one worker process per interface."""

    name: EngineName = "nfqueue"

    def __init__(self) -> None:
        self._interface = Interface(self.name)
        self._paths: dict[str, dict[str, Any]] = {}
        # Counts of replaced rules: (packets, bytes) of each source.
        self._counted: dict[str, tuple[int, int]] = {}
        self._worker: Child | None = None

    @property
    def worker_pid(self) -> int | None:
        """The delay process, while there is one."""
        return self._worker.process.pid if self._worker else None

    def apply(self, plan: InterfacePlan, release: bool = False) -> None:
        """See Engine. The worker listens before the first packet is sent to it."""
        if cannot := unsupported(plan, self.name):
            raise ValueError(f"engine nfqueue cannot do this: {cannot}")
        old = self._interface.plan
        alive = self._worker is None or self._worker.process.poll() is None
        if old is None or not alive or not _same_wires(old, plan):
            numbers = source_numbers(plan)
            paths = {
                source: {
                    **asdict(plan.paths[source]),
                    "queue": number,
                    "maxlen": wire_limit_packets(plan.down_bps, plan.paths[source]),
                }
                for source, number in numbers.items()
            }
            if paths or self._worker:
                order = {"paths": paths, "seed": plan.seed, "address": plan.address, "device": plan.device}
                self._ask({"op": "paths", **order, "release": release})
            if old is not None and queue_rules(old) != queue_rules(plan):
                self._counted = self._count()
            self._paths = paths
        self._interface.apply(plan)

    def clear(self) -> None:
        """See Engine. Packets stop coming before the worker lets go of those it holds."""
        self._interface.clear()
        if self._worker is not None:
            self._worker.close(timeout_s=10)
        self._worker, self._paths, self._counted = None, {}, {}

    def forget(self) -> None:
        """See Engine. The worker stays, and so do the packets that it holds."""
        self._interface.forget()

    def paths(self) -> dict[str, dict[str, Any]]:
        """See Engine: the worker's paths, where the kernel has the rule and the queue for it."""
        plan = self._interface.plan
        if plan is None or not self._paths:
            return {}
        rules = run(Command(("iptables", "-w", "-t", "mangle", "-S"))).splitlines()
        wanted = queue_rules(plan)
        if any(
            rule not in rules for rule in (*hook_rules("mangle", plan.device), *parent_rules(plan.device, wanted))
        ):
            return {}
        queues = {int(line.split()[0]) for line in _QUEUES.read_text().splitlines()}
        duplicated = applied_duplicates(plan)
        found = {}
        for source, path in self._paths.items():
            if wanted[source] in rules and path["queue"] in queues:
                fields = {name: value for name, value in path.items() if name not in ("queue", "maxlen")}
                found[source] = {**asdict(PathPlan.from_json(fields))}
                if source not in duplicated:
                    found[source]["duplicate_percent"] = 0.0
        return found

    def classes(self) -> dict[str, dict[str, int]]:
        """See Engine: the rules' counts; waiting packets are assumed to be of mean size."""
        if self._worker is None:
            return {}
        lines, found = self._ask({"op": "classes"}), {}
        dropped = self._dropped()
        for source, (packets, size) in self._count().items():
            line = lines.get(source, {"lost": 0, "held": 0})
            found[source] = {
                "bytes": size,
                "packets": packets,
                "dropped": line["lost"] + dropped.get(source, 0),
                "backlog_bytes": round(line["held"] * size / packets) if packets else 0,
                "backlog_packets": line["held"],
            }
        return found

    def _count(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes that each source's rules have counted since the links were last cleared."""
        found, plan = dict(self._counted), self._interface.plan
        if plan is None:
            return found
        output = run(Command(("iptables-save", "-c", "-t", "mangle"), may_fail=True))
        seen = {}
        for line in output.splitlines():
            if line.startswith("["):
                counters, _, rule = line.partition("] ")
                seen[rule] = tuple(int(count) for count in counters[1:].split(":"))
        for source, rule in queue_rules(plan).items():
            packets, size = found.get(source, (0, 0))
            more = seen.get(rule, (0, 0))
            found[source] = packets + more[0], size + more[1]
        return found

    def _dropped(self) -> dict[str, int]:
        """Packets for which each source's queue had no room, or whose announcement was lost."""
        rows = {int(row[0]): row for row in map(str.split, _QUEUES.read_text().splitlines())}
        return {
            source: int(rows[path["queue"]][5]) + int(rows[path["queue"]][6])
            for source, path in self._paths.items()
            if path["queue"] in rows
        }

    def lateness(self) -> dict[str, Any]:
        """See Engine: the worker's statistics (`released`, `late`, `late_p99_ms`, …)."""
        return self._ask({"op": "statistics"}) if self._worker else {}

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            module = "gannet.netem.engines.nfqueue_worker"
            self._worker = Child("the delay process", module, str(os.getpid()), cwd="/")
        try:
            answer = self._worker.ask(order)
        except ChildError as error:
            raise EngineError(f"{error}; its links are down") from error
        if "error" in answer:
            raise EngineError(f"the delay process could not do it: {answer['error']}")
        return answer


def _same_wires(old: InterfacePlan, plan: InterfacePlan) -> bool:
    """Whether the worker's paths stay as they are: only rates, buffers or segments change."""
    return (old.paths, old.seed, old.address) == (plan.paths, plan.seed, plan.address) and all(
        wire_limit_packets(old.down_bps, path) == wire_limit_packets(plan.down_bps, path)
        for path in plan.paths.values()
    )
