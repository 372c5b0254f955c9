"""What the conformance tests share. Judges are iperf3, plain sockets and kernel counters, not our own probes.

Tolerances: rates 2%, fan-in 3%, one-way delays max(0.5 ms, 1%), jitter 10%, counts the 99% interval. Engine nfqueue
draws from seeded streams, so for it the interval is a test of these very draws and not a game of chance. The kernel's
draws are new each time: a 99% interval would fail one good run in a hundred, so there it is the 99.99999% interval,
and 25% for deviations. Under an emulated CPU (GANNET_TEST_EMULATED, set by test_vm.py) delays may be max(1 ms, 2%)
off and rates 3%.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from gannet.netem.links.plan import InterfacePlan, PathPlan
from tests.netem.link_lab import ADDRESSES, Lab, node_plan
from tests.support.patience import Processors, seen_right

EMULATED = "GANNET_TEST_EMULATED" in os.environ
RATE, FAN_IN = (0.03, 0.04) if EMULATED else (0.02, 0.03)
# Small datagrams tell slow rates exactly; large ones let a slow processor keep up with fast rates.
SMALL, LARGE = 200, 1400
HEADERS = 42


def delay_tolerance_ms(delay_ms: float) -> float:
    return max(1.0, 0.02 * delay_ms) if EMULATED else max(0.5, 0.01 * delay_ms)


def confidence(engine: str) -> float:
    return 0.99 if engine == "nfqueue" else 0.9999999


def at_rate(
    measure_bps: Callable[[], float], planned_bps: float, tolerance: float = RATE, fast: bool = False
) -> bool:
    """Whether a rate is as planned in one of some looks.

    More than its plan a link must not carry: in one look a standstill may have heaped up what was on its way, not in
    two. Of a `fast` one, less may come, half of it at least, where no processor had time left.
    """
    too_fast = 0

    def look() -> tuple[float, float]:
        nonlocal too_fast
        processors = Processors()
        off = measure_bps() / planned_bps - 1
        too_fast += off > tolerance
        return off, processors.busy_share()

    def right(found: tuple[float, float]) -> bool:
        off, busy = found
        return abs(off) <= tolerance or (fast and -0.5 < off < 0 and busy > 0.95)

    return right(seen_right(look, right)) and too_fast < 2


def one_way_ms(lab: Lab, source: int, target: int, count: int = 20) -> list[float]:
    endpoint = lab.endpoint(target)
    lab.start_tool(target, "echo", endpoint)
    rows = json.loads(lab.tool(source, "ask", endpoint, count, 2))
    return [there for there, _ in rows]


def as_planned(
    delays_ms: Callable[[], list[list[float]]], planned_ms: Sequence[float], slack_ms: float = 0.0
) -> bool:
    """Whether the median delay of each path is as planned in one of some looks. A busy machine adds to delays."""

    def right(found: list[float]) -> bool:
        return all(
            abs(ms - wanted_ms) <= delay_tolerance_ms(wanted_ms) + slack_ms
            for ms, wanted_ms in zip(found, planned_ms, strict=True)
        )

    return right(seen_right(lambda: [median(path) for path in delays_ms()], right))


Arrivals = list[tuple[int, float]]


def arrivals(
    lab: Lab, count: int, interval_ms: float, sources: tuple[int, ...] = (0,), more: int = 0
) -> list[Arrivals]:
    """Numbered datagrams from some nodes at once as node 1 received them: (number, one-way ms), as they arrived."""
    endpoints = [lab.endpoint(1) for _ in sources]
    outputs = [lab.start_tool(1, "sink", endpoint, 10 * count, 2) for endpoint in endpoints]
    senders = [
        lab.start_background(source, "send", endpoint, count, interval_ms, more)
        for source, endpoint in zip(sources, endpoints, strict=True)
    ]
    assert [sender.wait(count * interval_ms / 1000 + 240) for sender in senders] == [0] * len(senders)
    return [[(number, late_ms) for number, late_ms in json.loads(output.readline())] for output in outputs]


def with_paths(plan: InterfacePlan, paths: dict[int, PathPlan]) -> InterfacePlan:
    """Paths of their own from some nodes."""
    return replace(plan, paths={**plan.paths, **{ADDRESSES[rank]: path for rank, path in paths.items()}}, segments=1)


def counts(lab: Lab, engine: str, paths: dict[int, PathPlan], count: int, interval_ms: float, more: int = 0) -> Any:
    """Apply paths to node 1 and send over all of them at once: each node's arrivals."""
    for rank in paths:  # neighbours must know each other: what waits for an address may be thrown away
        one_way_ms(lab, rank, 1, 1)
    lab.apply(engine, [node_plan(0), with_paths(node_plan(1), paths)])
    return dict(zip(paths, arrivals(lab, count, interval_ms, tuple(paths), more), strict=True))
