"""Compares a few echoes over a link that other traffic uses as well with the link's plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from gannet.netem.measure.certificate import EdgeResult
from gannet.netem.measure.intervals import quantile, quantile_interval
from gannet.netem.measure.judge import Order, one_way_delays_ms, passing_share
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances


def judge_busy_edge(
    order: Order, queue_ms: float, echoes: Mapping[str, Any], tolerances: Tolerances = TOLERANCES
) -> EdgeResult:
    """Compare echoes (measure_delay of gannet.netem.agent.probe, or an `error`) over a link in use with its plan.

    Other traffic makes echoes wait in queues, `queue_ms` at most, and may crowd some out. So the quickest
    must not be quicker than planned, nor slower than full queues explain; a link that is cut must carry
    none, and one that is open, with an open way back, must carry some.
    """
    if "error" in echoes:
        return replace(order.expected, ok=False, reasons=(echoes["error"],))
    reasons: list[str] = []
    one_way_ms = one_way_delays_ms(order, echoes)
    survival = passing_share(order.path) * passing_share(order.back)
    planned_ms = order.path.delay_ms
    if one_way_ms and survival == 0:
        reasons.append(
            f"{len(one_way_ms)} of {echoes['sent']} echoes came back, though the link or its way back is cut"
        )
    elif one_way_ms:
        paths = (order.path, order.back) if order.two_clocks else (order.path,)
        allowed_ms = sum(
            max(tolerances.delay_ms, tolerances.delay_share * path.delay_ms) + 4 * path.jitter_ms for path in paths
        )
        if not planned_ms - allowed_ms <= one_way_ms[0] <= planned_ms + allowed_ms + queue_ms:
            reasons.append(
                f"least one-way delay {one_way_ms[0]:.2f} ms, not {planned_ms:g} ms (− {allowed_ms:.2g} ms)"
            )
    elif (1 - survival) ** echoes["sent"] < 1 - tolerances.loss_confidence:
        reasons.append(f"none of {echoes['sent']} echoes came back")
    result = replace(order.expected, ok=not reasons, reasons=tuple(reasons), from_round_trip=order.two_clocks)
    if not one_way_ms:
        return result
    interval = quantile_interval(one_way_ms, 0.5)
    return replace(
        result,
        delay_p5_ms=quantile(one_way_ms, 0.05),
        delay_p50_ms=quantile(one_way_ms, 0.5),
        delay_p95_ms=quantile(one_way_ms, 0.95),
        delay_interval_ms=interval if all(map(isfinite, interval)) else None,
        delay_samples=len(one_way_ms),
        rtt_p50_ms=quantile(sorted(echoes["rtt_ms"]), 0.5),
    )
