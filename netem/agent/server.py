"""The link agent: runs inside a node's network namespace, alone holds the privilege, and serves JSON-line requests.

A child (gannet.netem.child) of an AgentClient, it reads requests such as {"id": 1, "op": "apply", "engine":
"nfqueue", "plan": {…}} from stdin and answers {"id": 1, "ok": {…}} or {"id": 1, "error": "…"}. The end of stdin,
SIGTERM and `exit` clear the links and end the agent; its children die with it. A probe's answer may come after those
to later requests: links can be changed while it measures. The operations:

    apply        engine, plan, check, release   apply a plan (repeatedly, live) and keep it applied; check: false
                                         does not read back a plan that the agent has applied already; release: true
                                         lets go of packets in flight where a delay shrinks
    stack        of gannet.netem.links.stack.Stack    pin TCP's settings and the interface's, and report them
    interface    device                  its Ethernet address (`hardware`)
    core         links                   limit these shared links (gannet.netem.links.pairs.core.CoreLink) at this
                                         namespace's bridge, and read them back: `differences`, `links`
    core_read_back                       read them back
    clear                                remove everything
    read_back                            what is applied, how it differs from the plan, and `strangers` dropped
    counters                             interface bytes and packets by frame, drops, backlog, by source (`classes`)
                                         too, TCP segments, the clock, and since the last call: lateness, round
                                         trips to watched peers, `repairs`; `broken` while one fails
    watch        peers, interval_s       echo each peer (by address) now and then; no peers: stop
    probe_serve  address                 answer probes until the agent ends
    probe        kind, …                 measure one path (see gannet.netem.agent.probe); blocks until measured
    exit
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gannet.netem.agent import probe
from gannet.netem.agent.read_back import ERRORS
from gannet.netem.agent.reconciler import Reconciler
from gannet.netem.agent.rtt_watch import Watch
from gannet.netem.agent.sysctls import link_settings
from gannet.netem.child import Answers, Child, ChildError
from gannet.netem.engines.base import Engine, EngineError, read_buckets, strangers
from gannet.netem.engines.core import Core
from gannet.netem.engines.frame_counts import FrameCounts
from gannet.netem.engines.netem import NetemEngine
from gannet.netem.engines.nfqueue import NfqueueEngine
from gannet.netem.links.pairs.core import CoreLink
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.process import clock_name

log = logging.getLogger(__name__)

_ENGINES: dict[str, type[Engine]] = {"netem": NetemEngine, "nfqueue": NfqueueEngine}
_PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "delay": probe.measure_delay,
    "delays": probe.measure_delays,
    "rate": probe.measure_rate,
}


def tcp_counters() -> dict[str, int]:
    """TCP segments that this namespace has sent and retransmitted."""
    names, values = (
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    found = dict(zip(names, values, strict=True))
    return {"tcp_sent": int(found["OutSegs"]), "tcp_retransmitted": int(found["RetransSegs"])}


def _applied(plan: InterfacePlan | None) -> InterfacePlan:
    if plan is None:
        raise EngineError("no plan is applied: apply one first")
    return plan


class Agent:
    """One interface's links: their reconciler, probe server and watch."""

    def __init__(self) -> None:
        self.reconciler = Reconciler(_ENGINES)
        self.counts = FrameCounts()
        self._core = Core()
        self.probe_server: Child | None = None
        self.watching: Watch | None = None

    def apply(self, engine: str, plan: dict[str, Any], check: bool = True, release: bool = False) -> dict[str, Any]:
        """Apply a plan; a change of engine clears the old one first.

        A plan that is applied already is left untouched, unless it no longer reads back as it should:
        then it is built again. Without `check` it is not read back. `release`: see gannet.netem.engines.base.Engine.
        """
        self.reconciler.apply(engine, InterfacePlan.from_json(plan), check, release)
        return {"engine": engine}

    def stack(self, **stack: Any) -> dict[str, Any]:
        """Pin TCP's settings and the interface's for as long as there are links: the fields of
        gannet.netem.links.stack.Stack.
        """
        return self.reconciler.pin(**stack)

    def interface(self, device: str) -> dict[str, Any]:
        """The Ethernet address of an interface (`hardware`)."""
        return {"hardware": link_settings(device)["hardware"]}

    def core(self, links: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Limit these shared links, and no others, at the bridge of this namespace; see Core.read_back."""
        self._core.apply([CoreLink.from_json(link) for link in links])
        return self._core.read_back()

    def core_read_back(self) -> dict[str, Any]:
        """See gannet.netem.engines.core.Core.read_back."""
        return self._core.read_back()

    def clear(self) -> dict[str, Any]:
        """Remove what was applied, and stop watching."""
        self._end_watch()
        self._core.clear()
        self.reconciler.clear()
        return {}

    def read_back(self) -> dict[str, Any]:
        """The applied rates, buffers and paths, and `differences` from what was configured, in words."""
        return self.reconciler.read_back()

    def counters(self) -> dict[str, Any]:
        """Interface counters, drops and backlog of both token buckets and of sources, and the engine's lateness.

        While the links are broken, only that, the repairs and the clock.
        """
        with self.reconciler.lock:
            self.reconciler.hear()
            try:
                counted = self._count()
            except ERRORS:  # the engine's process, or the interface, has gone meanwhile: that is noticed now
                self.reconciler.hear(closely=True)
                counted = self._count()
        return {**counted, "rtt_ms": self.watching.take() if self.watching else {}}

    def _count(self) -> dict[str, Any]:
        plan, engine, broken = _applied(self.reconciler.plan), self.reconciler.engine, self.reconciler.broken
        assert engine is not None
        found: dict[str, Any] = {"clock_ns": time.monotonic_ns(), "broken": broken}
        if broken is None:
            found |= self.counts.read(plan.device)
            for direction, bucket in read_buckets(plan.device).items():
                found[f"dropped_{direction}"] = bucket["dropped"] if bucket else 0
                found[f"backlog_bytes_{direction}"] = bucket["backlog_bytes"] if bucket else 0
            found |= {
                "strangers": strangers(plan.device),
                "classes": engine.classes(),
                **tcp_counters(),
                **engine.lateness(),
            }
        return {**found, "repairs": self.reconciler.take_repairs()}

    def watch(self, peers: Sequence[str], interval_s: float) -> dict[str, Any]:
        """Echo the probe server of each of these peers every `interval_s`; `counters` reports the round trips."""
        address = _applied(self.reconciler.plan).address
        if not interval_s > 0:
            raise ValueError(f"interval_s is {interval_s}: it must be above 0")
        self._end_watch()
        if peers:
            self.watching = Watch(address, peers, interval_s)
        return {}

    def _end_watch(self) -> None:
        if self.watching is not None:
            self.watching.close()
            self.watching = None

    def probe_serve(self, address: str) -> dict[str, Any]:
        """Answer probes on `address` until the agent ends; asking twice is harmless."""
        if self.probe_server is None or self.probe_server.process.poll() is not None:
            name = f"the probe server on {address}"
            self.probe_server = Child(name, "gannet.netem.agent.probe", str(os.getpid()), address, cwd="/")
            try:
                self.probe_server.answer()
            except ChildError as error:
                self.probe_server = None
                raise EngineError(str(error)) from error
        return {"port": probe.PORT, "clock": clock_name()}

    def probe(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """Measure one path: kind `delay` or `rate`, arguments as in gannet.netem.agent.probe."""
        if kind not in _PROBES:
            raise EngineError(f"no probe {kind!r}: choose one of {', '.join(_PROBES)}")
        return _PROBES[kind](**arguments)

    def close(self) -> None:
        """Clear the links and end the children."""
        if self.probe_server is not None:
            self.probe_server.process.kill()
            self.probe_server.process.wait()
            self.probe_server = None
        self._end_watch()
        self._core.clear()
        self.reconciler.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; every error is returned to the driver, and none ends the agent."""
        operations: dict[str, Callable[..., dict[str, Any]]] = {
            "apply": self.apply,
            "stack": self.stack,
            "interface": self.interface,
            "core": self.core,
            "core_read_back": self.core_read_back,
            "clear": self.clear,
            "read_back": self.read_back,
            "counters": self.counters,
            "watch": self.watch,
            "probe_serve": self.probe_serve,
            "probe": self.probe,
        }
        number, operation = request.pop("id", None), str(request.pop("op", None))
        try:
            if operation not in operations:
                raise EngineError(f"no operation {operation!r}: choose one of {', '.join(operations)}, exit")
            return {"id": number, "ok": operations[operation](**request)}
        except (*ERRORS, TypeError, KeyError) as error:
            log.warning("%s: %s", operation, error)
            return {"id": number, "error": f"{operation}: {error}"}


def _end(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signal_number)


def main(answers: Answers) -> None:
    """Serve requests until stdin ends."""
    signal.signal(signal.SIGTERM, _end)
    # Ctrl-C reaches the whole foreground group; the driver decides when the links come down.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent = Agent()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if request.get("op") == "exit":
                agent.close()
                answers({"id": request.get("id"), "ok": {}})
                return
            if request.get("op") == "probe":
                threading.Thread(target=lambda asked=request: answers(agent.answer(asked)), daemon=True).start()
            else:
                answers(agent.answer(request))
    finally:
        agent.close()
