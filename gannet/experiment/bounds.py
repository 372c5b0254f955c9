"""A lower bound of a step's time on its links: max(compute, bytes ÷ rate + delay), over nodes that wait in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gannet.ledger.records import LowerBound
from gannet.netem.links.pairs.shared import shared_pairs
from gannet.netem.links.plan import Edge, InterfacePlan
from gannet.node.methods.formulas import Traffic
from gannet.node.traffic.players import shape_of, together

# A linear program of more edges takes seconds: then the bounds of single nodes and links must do.
_MOST_EDGES = 10_000
_UNIT_BYTES = 1e6  # so that a solver's tolerances are small against all of its numbers


def lower_bound(
    traffic: Traffic,
    plans: Sequence[InterfacePlan],
    compute_s: float,
    exchanges_per_step: float,
    overlap: bool,
    divide: bool = True,
) -> LowerBound:
    """Bound from the payloads' bytes alone (no headers), the links' rates and the paths' delays.

    `compute_s` is a gradient's time, `exchanges_per_step` the number of exchanges for each gradient. Where all links
    are alike, an exchange takes bytes ÷ rate of what is sent in turn and a delay for every consecutive hop; a ring
    forwards segments as they arrive, so that one hides behind the other (transfer + one delay, or all the hops'
    delays and a hop's transfer). Where links differ, nodes wait for different things, so only an exchange's delays
    are certain. Delays count as means of both directions: a chain of waiting nodes goes both ways. Computing and
    exchange hide one another only with `overlap`; otherwise they add. The busiest node's transfer is a bound by
    itself: others may compute while it still sends. Where paths have rates of their own, or shared ones, a node sends
    and receives at no more than their sum; what nodes send, or receive, over a shared link alone takes it their bytes
    ÷ its rate; and all of it takes as long as the best division among the edges, unless `divide` is false.
    """
    shared = shared_pairs(plans)
    out_bps, in_bps = _rates_bps(traffic, plans, shared)
    transfer_s = max(
        (
            *(
                max(_seconds(sent, out_bps[rank]), _seconds(received, in_bps[rank]))
                for rank, (sent, received) in enumerate(zip(traffic.sent, traffic.received, strict=True))
            ),
            *(_shared_s(traffic, pairs, rate_bps) for pairs, rate_bps in shared),
            _flow_s(traffic, plans, shared) if divide else 0.0,
        ),
        default=0.0,
    )
    delays = {(a, b): plans[b].paths[plans[a].address].delay_ms / 1000 for a, b in traffic.edges}
    there_and_back = [(delay + delays[b, a]) / 2 for (a, b), delay in delays.items() if (b, a) in delays]
    mean_s = sum(delays.values()) / len(delays) if delays else 0.0
    one_hop_s = mean_s if traffic.around or not there_and_back else max(there_and_back)
    if traffic.changing:  # the waiting pairs change with each exchange: only the shortest delay is certain
        one_hop_s = min(delays.values(), default=0.0)
    alike = len(set(delays.values())) <= 1 and len({(plan.up_bps, plan.down_bps) for plan in plans}) == 1
    alike = alike and not any(plan.limits or plan.shared_in for plan in plans)
    exchange_s = delay_s = traffic.hops * one_hop_s
    if alike and traffic.around:
        exchange_s = max(transfer_s + one_hop_s, delay_s + transfer_s / max(1, traffic.hops))
    elif alike and traffic.edges:
        sent, received = traffic.in_turn
        exchange_s = delay_s + max(_seconds(sent, plans[0].up_bps), _seconds(received, plans[0].down_bps))
    transfer_s, delay_s, exchange_s = (part_s * exchanges_per_step for part_s in (transfer_s, delay_s, exchange_s))
    waited_s = max(compute_s, exchange_s) if overlap else compute_s + exchange_s
    return LowerBound(compute_s, transfer_s, delay_s, max(waited_s, transfer_s))


def joint_bound(
    each: Sequence[tuple[Traffic, bool]],
    plans: Sequence[InterfacePlan],
    compute_s: float,
    steps: int,
    divide: bool = True,
) -> LowerBound:
    """The bound of a run of `steps` steps with several exchanges, of one player each, and whether it overlaps.
    `divide`: see lower_bound.

    Exchanges of one shape count as one exchange of all their bytes. Those of different shapes may hide behind one
    another, since no node waits for one before it begins the other; but all their bytes share the links.
    """
    shapes: dict[tuple[object, ...], list[Traffic]] = {}
    for traffic, overlap in each:
        shapes.setdefault((shape_of(traffic), overlap), []).append(traffic)

    def bound(traffics: Sequence[Traffic], overlap: bool) -> LowerBound:
        joint = together(traffics, steps)
        per_step = steps // joint.every / steps if steps else 0.0
        return lower_bound(joint, plans, compute_s, per_step, overlap, divide)

    bounds = [bound(traffics, bool(shape[-1])) for shape, traffics in shapes.items()]
    most = max(bounds, key=lambda bound: bound.total_s)
    if len(bounds) == 1:
        return most
    transfer_s = bound([traffic for traffic, _ in each], True).transfer_s
    return replace(most, transfer_s=transfer_s, total_s=max(most.total_s, transfer_s))


def hidden_s(sent_bytes: int, rate_bps: int | None, compute_s: float, seconds: float) -> float:
    """Seconds for which a node sent while it computed, at least: its work is longer than the time it took.

    Its payload alone keeps its uplink busy for bytes ÷ rate. 0 where nothing is certain.
    """
    return max(0.0, _seconds(sent_bytes, rate_bps) + compute_s - seconds)


def _shared_s(traffic: Traffic, pairs: frozenset[Edge], rate_bps: int) -> float:
    """Seconds that a shared link needs for what must pass it: all bytes of the nodes that have no way around it."""
    sure = 0
    for counts, end in ((traffic.sent, 0), (traffic.received, 1)):
        around = {edge[end] for edge in traffic.edges if edge not in pairs}
        only = {edge[end] for edge in traffic.edges if edge in pairs} - around
        sure = max(sure, sum(counts[rank] for rank in only))
    return _seconds(sure, rate_bps)


def _flow_s(traffic: Traffic, plans: Sequence[InterfacePlan], shared: Sequence[tuple[frozenset[Edge], int]]) -> float:
    """The least seconds in which what each node sends and receives fits through all links, whichever edges carry it.

    A linear program: no division of the bytes among the edges is known, so the best one counts. 0 where only nodes'
    own links limit anything, which single nodes' bounds say as well.
    """
    edges = traffic.edges
    if not (shared or any(plan.limits for plan in plans)) or not 0 < len(edges) <= _MOST_EDGES:
        return 0.0
    from scipy.optimize import linprog  # a good part of a second to import
    from scipy.sparse import coo_array

    rows: list[
        tuple[list[int], float, float]
    ] = []  # edges, and what all of them carry at most, bit/s, or at least, bytes
    for end, counts in ((0, traffic.sent), (1, traffic.received)):
        for rank, plan in enumerate(plans):
            own = [number for number, edge in enumerate(edges) if edge[end] == rank]
            if not own:
                continue
            if counts[rank] > 0:
                rows.append((own, 0.0, float(counts[rank])))
            if (rate_bps := plan.down_bps if end else plan.up_bps) is not None:
                rows.append((own, rate_bps, 0.0))
    for number, (a, b) in enumerate(edges):
        if (limit := plans[b].limits.get(plans[a].address)) is not None:
            rows.append(([number], limit.rate_bps, 0.0))
    rows += [([number for number, edge in enumerate(edges) if edge in pairs], rate, 0.0) for pairs, rate in shared]
    seconds = len(edges)  # the last variable
    entries = [
        (-1.0 if least else 1.0, row, number) for row, (own, _, least) in enumerate(rows) for number in own
    ] + [(-rate / 8 / _UNIT_BYTES, row, seconds) for row, (_, rate, _) in enumerate(rows) if rate]
    values, at_row, at_column = zip(*entries, strict=True)
    found = linprog(
        [*[0.0] * seconds, 1.0],
        A_ub=coo_array((values, (at_row, at_column)), shape=(len(rows), seconds + 1)).tocsr(),
        b_ub=[-least / _UNIT_BYTES for _, _, least in rows],
        method="highs",
    )
    return float(found.x[-1]) * (1 - 1e-6) if found.success else 0.0


def _rates_bps(
    traffic: Traffic, plans: Sequence[InterfacePlan], shared: Sequence[tuple[frozenset[Edge], int]]
) -> tuple[Sequence[int | None], Sequence[int | None]]:
    """The rates at which each node can send, and receive, over the edges of `traffic`, by rank; None: no cap."""
    ups, downs = [plan.up_bps for plan in plans], [plan.down_bps for plan in plans]
    if not shared and not any(plan.limits for plan in plans):
        return ups, downs
    for rates, end in ((ups, 0), (downs, 1)):
        for rank in range(len(plans)):
            left = {edge for edge in traffic.edges if edge[end] == rank}
            whole = bool(left)
            total_bps = 0
            for pairs, rate_bps in shared:
                if left & pairs:
                    total_bps += rate_bps
                    left -= pairs
            for a, b in left:
                limit = plans[b].limits.get(plans[a].address)
                whole = whole and limit is not None
                total_bps += limit.rate_bps if limit is not None else 0
            if whole:
                rates[rank] = min(total_bps, rates[rank] or total_bps)
    return ups, downs


def _seconds(count: int, rate_bps: int | None) -> float:
    return count * 8 / rate_bps if rate_bps else 0.0
