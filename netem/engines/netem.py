"""Engine netem: everything in the kernel, by sch_netem behind an IFB, without any lateness to watch.

A process is needed for jitter in order alone (gannet.netem.engines.netem_steps).
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from struct import unpack_from
from typing import Any

from gannet.netem.child import Child, ChildError
from gannet.netem.engines import netlink
from gannet.netem.engines.base import EngineError, Interface, run
from gannet.netem.engines.netlink import Node
from gannet.netem.links.plan import BurstPlan, InterfacePlan, PathPlan
from gannet.netem.shaping.commands import Command, EngineName, ifb_name
from gannet.netem.shaping.lines import CLASSIFIER
from gannet.netem.shaping.rules import hook_rules, parent_rules, tee_rules
from gannet.netem.shaping.tc import (
    longest_delay,
    netem_cannot,
    netem_jitter_ms,
    netem_loss,
    wire_limit_packets,
)

# Attributes of netem's options (include/uapi/linux/pkt_sched.h), behind the 24 bytes of struct tc_netem_qopt.
_REORDER, _CORRUPT, _LOSS, _LATENCY64, _JITTER64 = 3, 4, 5, 10, 11
_LOSS_GE = 2
_QOPT_BYTES = 24
_TICK_MS = 64e-6
# A normal draw exceeds so many deviations once in half a billion.
_MOST_DRAWS = 6
_TRIAL = "ifb-seed-trial"


class NetemEngine:
    """Rates by HTB, delay, jitter, loss, reordering and corruption by one netem qdisc per source."""

    name: EngineName = "netem"

    def __init__(self) -> None:
        self._interface = Interface(self.name)
        self._seeded: bool | None = None
        self._steps: Child | None = None
        # The port of the process's changes, by which the kernel's notices of them are known.
        self.port_id = 0

    def apply(self, plan: InterfacePlan, release: bool = False) -> None:
        cannot = netem_cannot(plan)
        if cannot:
            raise ValueError(f"engine netem cannot do this: {cannot}")
        if self._seeded is None:
            self._seeded = takes_seed()
        self._interface.apply(plan, self._seeded, release)
        self._step(plan)

    @property
    def worker_pid(self) -> int | None:
        """The process that steps delays, while there is one."""
        return self._steps.process.pid if self._steps else None

    def _step(self, plan: InterfacePlan) -> None:
        applied = self._interface.applied
        assert applied is not None
        paths = {
            source: {
                **asdict(path),
                "parent": applied.handles[source] << 16 | 1,
                "handle": applied.stepped[source] << 16,
                "limit": wire_limit_packets(plan.down_bps, longest_delay(path)),
            }
            for source in applied.stepped
            for path in (plan.paths.get(source, PathPlan()),)
        }
        if not paths and self._steps is None:
            return
        if self._steps is None:
            self._steps = Child("the delay process", "gannet.netem.engines.netem_steps", str(os.getpid()), cwd="/")
        order = {"device": ifb_name(plan.device), "paths": paths, "seed": plan.seed, "address": plan.address}
        try:
            answer = self._steps.ask(order)
        except ChildError as error:
            raise EngineError(f"{error}; jitter of its links stands still") from error
        if "error" in answer:
            raise EngineError(f"the delay process could not do it: {answer['error']}")
        self.port_id = answer["port_id"]

    def clear(self) -> None:
        if self._steps is not None:
            self._steps.close(timeout_s=10)
        self._steps, self.port_id = None, 0
        self._interface.clear()

    def forget(self) -> None:
        self._interface.forget()

    def paths(self) -> dict[str, dict[str, Any]]:
        """See Engine: the kernel's report of each netem qdisc (without distributions, which it does not report)."""
        plan = self._interface.plan
        if plan is None:
            return {}
        duplicated = applied_duplicates(plan)
        behind = self._behind()
        return {
            source: asdict(_path(node, plan.paths[source], source in duplicated, behind.get(source)))
            for source, node in self._lines().items()
            if source in plan.paths
        }

    def classes(self) -> dict[str, dict[str, int]]:
        """See Engine: the counters of each netem qdisc. Its backlog includes that of the buffer below it."""
        return {
            source: {
                "bytes": node.bytes,
                "packets": node.packets,
                "dropped": node.dropped,
                "backlog_bytes": node.backlog_bytes,
                "backlog_packets": node.backlog_packets,
            }
            for source, node in self._lines().items()
        }

    def lateness(self) -> dict[str, Any]:
        """See Engine: the kernel's timers do not report their lateness."""
        return {}

    def _behind(self) -> dict[str, Node | None]:
        """Of the sources that should have a second netem, with the delay: that one, if it is there."""
        applied = self._interface.applied
        if applied is None or not applied.stepped:
            return {}
        found = {(n.parent, n.handle): n for n in netlink.qdiscs(ifb_name(applied.plan.device)) if n.kind == "netem"}
        return {
            source: found.get((applied.handles[source] << 16 | 1, handle << 16))
            for source, handle in applied.stepped.items()
        }

    def _lines(self) -> dict[str, Node]:
        applied = self._interface.applied
        if applied is None:
            return {}
        qdiscs = netlink.qdiscs(ifb_name(applied.plan.device))
        lines = {n.handle >> 16: n for n in qdiscs if n.kind == "netem" and n.parent >> 16 == CLASSIFIER}
        return {source: lines[handle] for source, handle in applied.handles.items() if handle in lines}


def takes_seed() -> bool:
    """Whether netem takes a seed here, as Linux and iproute2 do from 6.6 on: tried on a throwaway device.

    An older kernel silently ignores a seed, so the test is whether the kernel reports it back.
    """
    try:
        run(Command(("ip", "link", "add", _TRIAL, "type", "ifb"), may_fail=True))
        run(
            Command(
                ("tc", "qdisc", "add", "dev", _TRIAL, "root", "netem", "delay", "1ms", "seed", "7"), may_fail=True
            )
        )
        return " seed 7" in run(Command(("tc", "qdisc", "show", "dev", _TRIAL), may_fail=True))
    finally:
        run(Command(("ip", "link", "del", _TRIAL), may_fail=True))


def applied_duplicates(plan: InterfacePlan) -> set[str]:
    """The sources whose packets are duplicated as planned."""
    wanted = tee_rules(plan)
    if not wanted:
        return set()
    rules = run(Command(("iptables", "-w", "-S"), may_fail=True)).splitlines()
    leading = [*hook_rules("filter", plan.device), *parent_rules(plan.device, wanted)]
    if any(rule not in rules for rule in leading):
        return set()
    found = {_without_probability(rule): _probability(rule) for rule in rules}
    return {
        source
        for source, rule in wanted.items()
        # iptables keeps 31 bits of a probability.
        if abs(found.get(_without_probability(rule), -1.0) - _probability(rule)) < 1e-6
    }


def _words(rule: str) -> tuple[str, str, str]:
    before, _, rest = rule.partition(" --probability ")
    value, _, after = rest.partition(" ")
    return before, value, after


def _without_probability(rule: str) -> str:
    before, _, after = _words(rule)
    return f"{before} {after}"


def _probability(rule: str) -> float:
    value = _words(rule)[1]
    return float(value) if value else -1.0


def _path(node: Node, plan: PathPlan, duplicated: bool, behind: Node | None) -> PathPlan:
    """A netem qdisc in the terms of the plan that it carries out, with the one `behind` it, if that has the delay."""
    if behind is not None:
        fates = _path(node, replace(plan, delay_ms=0.0, jitter_ms=0.0, reorder_percent=0.0), duplicated, None)
        delays = _path(behind, PathPlan(plan.delay_ms, reorder_percent=plan.reorder_percent), False, None)
        delay_ms = delays.delay_ms
        if plan.wanders and abs(delay_ms - plan.delay_ms) <= _MOST_DRAWS * plan.jitter_ms + 0.001:
            delay_ms = plan.delay_ms
        kinds = {name: getattr(plan, name) for name in ("jitter_ms", "jitter_distribution", "jitter_order")}
        return replace(fates, delay_ms=delay_ms, reorder_percent=delays.reorder_percent, **kinds)
    latency, _, loss, gap, _, jitter = unpack_from("=6I", node.options)
    found = netlink.attributes(node.options[_QOPT_BYTES:])
    delay_ms = unpack_from("=q", found[_LATENCY64])[0] / 1e6 if _LATENCY64 in found else latency * _TICK_MS
    jitter_ms = unpack_from("=q", found[_JITTER64])[0] / 1e6 if _JITTER64 in found else jitter * _TICK_MS
    # The plan's figures, where netem's own for that plan would be those found.
    wanted_delay_ms, wanted_jitter_ms = netem_jitter_ms(plan)
    factor = plan.jitter_ms / wanted_jitter_ms if wanted_jitter_ms else 1.0
    lossy: BurstPlan | float = _percent(loss)
    model = netlink.attributes(found.get(_LOSS, b""))
    if _LOSS_GE in model:
        p, r, h, k1 = (_percent(share) for share in unpack_from("=4I", model[_LOSS_GE]))
        lossy = BurstPlan(p, r, 100 - h, k1)
    random_loss, bursts = _as_planned(lossy, plan)
    reorder = unpack_from("=I", found[_REORDER])[0] if _REORDER in found and gap else 0
    corrupt = unpack_from("=I", found[_CORRUPT])[0] if _CORRUPT in found else 0
    return replace(
        plan,
        delay_ms=max(0.0, delay_ms - max(wanted_delay_ms, 0.0) + plan.delay_ms),
        jitter_ms=jitter_ms * factor,
        loss_percent=random_loss,
        bursts=bursts,
        # Where there is no delay to skip, netem is not set to reorder.
        reorder_percent=_percent(reorder) if plan.delay_ms > 0 else plan.reorder_percent,
        corrupt_percent=_percent(corrupt),
        duplicate_percent=plan.duplicate_percent if duplicated else 0.0,
    )


def _percent(share: int) -> float:
    """A 32-bit share in per cent, to the precision that 32 bits hold."""
    return round(100 * share / 0xFFFFFFFF, 6)


def _as_planned(found: BurstPlan | float, plan: PathPlan) -> tuple[float, BurstPlan | None]:
    """Random loss and bursts: the plan's where netem has their combination, else as found."""
    wanted = netem_loss(plan)
    ours, theirs = (
        tuple(asdict(loss).values()) if isinstance(loss, BurstPlan) else (loss,) for loss in (found, wanted)
    )
    if len(ours) == len(theirs) and all(abs(a - b) < 1e-4 for a, b in zip(ours, theirs, strict=True)):
        return plan.loss_percent, plan.bursts
    return (0.0, found) if isinstance(found, BurstPlan) else (found, None)
