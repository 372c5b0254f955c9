"""The cost of a run's steps, compared with the minimum that its links and its pace allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gannet.experiment.bounds import hidden_s, joint_bound
from gannet.fabrics.job import Job
from gannet.ledger.records import LowerBound
from gannet.ledger.writer import Ledger
from gannet.node.methods.formulas import Traffic
from gannet.node.players.config import REST, parts_of
from gannet.spec.run_spec import RunSpec

# A gradient may take this much longer than its pace, on average over a run, before the run is untrusted.
_PACE_TOLERANCE = 1.15

# A trace has thousands of states: a linear program for each would take longer than the rest of the summary.
_MOST_DIVIDED = 100


def missed_pace(spec: RunSpec, ledger: Ledger) -> list[str]:
    """Reasons to distrust a run whose host was too crowded to keep the pace that makes its arms equal."""
    if spec.pace_ms is None:
        return []
    means_ms = {rank: 1000 * node.mean("compute_s") for rank, node in ledger.stats.items() if node.count}
    pace_ms = {rank: spec.node_pace_ms.get(rank, spec.pace_ms) for rank in means_ms}
    slowest = max(means_ms, key=lambda rank: means_ms[rank] / pace_ms[rank], default=None)
    paces = spec.algorithm.traits.paces_per_step  # a step of an MD-GAN worker has fewer
    if slowest is None or means_ms[slowest] <= _PACE_TOLERANCE * paces * pace_ms[slowest]:
        return []
    return [
        f"the host is too crowded for pace_ms {pace_ms[slowest]:g}: gradients of node {slowest} took "
        f"{means_ms[slowest]:.1f} ms on average; raise pace_ms, or use fewer nodes"
    ]


def computing_s(spec: RunSpec, ledger: Ledger) -> tuple[float, float]:
    """(the smallest mean computing time per step of any node, a lower bound of the mean step time), seconds.

    The bound is the slowest node's mean where nodes advance in step, and the mean over all steps where each advances
    by itself.
    """
    nodes = [node for node in ledger.stats.values() if node.count]
    if not nodes:
        return 0.0, 0.0
    means = [node.mean("compute_s") for node in nodes]
    if all(part.algorithm.traits.own_speed for part in spec.methods):
        return min(means), sum(node.sums["compute_s"] for node in nodes) / sum(node.count for node in nodes)
    return min(means), max(means)


def bound_of(
    spec: RunSpec, traffics: Mapping[str, Traffic], job: Job, computing: tuple[float, float], steps: int
) -> LowerBound:
    """The lower bound of a step with this run's measured times of computing, over the exchanges it made.

    `traffics`: by player, see gannet.node.traffic.players. Where links change on schedule, it is the bound for their
    best state. A slow node's computing hides what the others send, so only the least computing adds to an exchange.
    """
    states = [job.plans, *(job.plans_of(change.links) for change in job.changes)]
    least_s, sure_s = computing
    asynchronous = spec.algorithm.traits.asynchronous  # no step has to wait for an exchange
    parts = parts_of(spec, traffics) or {REST: spec}
    overlaps = [part.algorithm.traits.overlaps for part in parts.values()]
    each = list(zip(traffics.values(), overlaps, strict=True))
    divide = len(states) <= _MOST_DIVIDED
    bounds = [joint_bound(each, plans, least_s, 0 if asynchronous else steps, divide) for plans in states]
    bound = min(bounds, key=lambda bound: bound.total_s)
    return replace(bound, compute_s=sure_s, total_s=max(bound.total_s, sure_s))


def hidden_per_step_s(ledger: Ledger, job: Job) -> float:
    """Mean seconds a step, over the nodes, that sending was hidden behind computing; see gannet.experiment.bounds.

    Where links change on schedule, as if each node's uplink had been at its fastest all the time.
    """
    states = [job.plans, *(job.plans_of(change.links) for change in job.changes)]
    found = []
    for rank, node in ledger.stats.items():
        if node.count:
            rates = [plans[rank].up_bps for plans in states]
            rate_bps = None if None in rates else max(rate for rate in rates if rate is not None)
            sent, compute_s = int(node.sums["codec_bytes"]), node.sums["compute_s"]
            found.append(hidden_s(sent, rate_bps, compute_s, node.t_s) / node.count)
    return float(np.mean(found)) if found else 0.0
