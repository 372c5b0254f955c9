"""A link in a few lines of its own: what becomes of each packet of a probe, by the definitions of PathPlan.

An independent truth for the judges of gannet.netem.measure.judge: no engine, no clock, no network, every draw from
one seed.
"""

from __future__ import annotations

import random
from statistics import NormalDist
from typing import Any

from gannet.netem.agent.arrivals import arrival_report
from gannet.netem.links.plan import FRAME_BYTES, PathPlan

ECHO_BYTES = 70


class Link:
    """A path as `plan` says, behind a bottleneck of `rate_bps`."""

    def __init__(self, plan: PathPlan, rate_bps: float, seed: int) -> None:
        self.plan, self.rate_bps, self.random = plan, rate_bps, random.Random(seed)
        bursts = plan.bursts
        self.bad = bursts is not None and self.random.random() < (
            bursts.good_to_bad_percent / (bursts.good_to_bad_percent + bursts.bad_to_good_percent)
        )

    def _chance(self, percent: float) -> bool:
        return self.random.random() < percent / 100

    def lost(self) -> bool:
        """Whether the next packet is lost, or arrives broken."""
        bursts, lost = self.plan.bursts, self._chance(self.plan.loss_percent)
        if bursts is not None:
            lost |= self._chance(bursts.loss_in_bad_percent if self.bad else bursts.loss_in_good_percent)
            leave = bursts.bad_to_good_percent if self.bad else bursts.good_to_bad_percent
            self.bad ^= self._chance(leave)
        return lost or self._chance(self.plan.corrupt_percent)

    def delay_ms(self) -> float:
        """Of the next packet that does not skip it."""
        share = self.random.random()
        match self.plan.jitter_distribution:
            case "normal":
                spread = NormalDist().inv_cdf(share)
            case "pareto":
                spread = ((1 - share) ** (-1 / 3) - 1.5) / 0.75**0.5
            case _:
                spread = 2 * share - 1
        return max(0.0, self.plan.delay_ms + self.plan.jitter_ms * spread)

    def deliver(self, count: int, apart_ms: float) -> list[tuple[float, int]]:
        """(ms, number) of all arrivals, in order, of packets that leave the bottleneck so far apart."""
        arrivals, last_ms = [], 0.0
        for number in range(count):
            if self.lost():
                continue
            left_ms = number * apart_ms
            if self._chance(self.plan.reorder_percent):
                at_ms = left_ms
            else:
                at_ms = last_ms = max(last_ms, left_ms + self.delay_ms())
            arrivals += [(at_ms, number)] * (2 if self._chance(self.plan.duplicate_percent) else 1)
        return sorted(arrivals)

    def echoes(self, count: int, apart_ms: float) -> dict[str, Any]:
        """As measure_delay answers, the way back without a fault and 1 ms long."""
        arrivals = self.deliver(count, apart_ms)
        one_way_ms = {number: at_ms - number * apart_ms for at_ms, number in reversed(arrivals)}
        report = arrival_report([round(1e6 * t) for t, _ in arrivals], [n for _, n in arrivals], count, ECHO_BYTES)
        delays = list(one_way_ms.values())
        return {"sent": count, "one_way_ms": delays, "rtt_ms": [delay + 1 for delay in delays], **report}

    def train(self, count: int) -> dict[str, Any]:
        """As measure_rate answers."""
        arrivals = self.deliver(count, 8000 * FRAME_BYTES / self.rate_bps)
        times_ns, numbers = [round(1e6 * t) for t, _ in arrivals], [n for _, n in arrivals]
        return {"sent": count, "frame_bytes": FRAME_BYTES, **arrival_report(times_ns, numbers, count)}
