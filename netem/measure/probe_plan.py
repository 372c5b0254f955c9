"""Plans a measurement: which probes may run at once, for how long, and how many. Pure.

All nodes measure at once, as far as no probe disturbs another: the time for n nodes grows with n, not with the number
of links, n (n − 1), and the more rounds there are, the fewer packets each figure is taken from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from gannet.netem.links.jitter import independent_s
from gannet.netem.links.pairs.shared import shared_pairs
from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import FRAME_BYTES, Edge, InterfacePlan, PathPlan, path_rate_bps

_FRAME_BITS = 8 * FRAME_BYTES
ECHO_FRAME_BITS = 8 * 70
_ECHO_INTERVAL_S = 0.005
# Of all links together: what two cores carry without being late (engine nfqueue takes 0.3 ms per packet in all).
_ECHOES_PER_S = 2200
_ROUND_PACKETS_PER_S = 6700
_ECHOES_S = 3.0
_LEAST_ECHOES, _MOST_ECHOES = 30, 200
# Share of a link's rate: small packets pass a token bucket unhindered up to its rate.
_ECHO_SHARE = 0.4
# A train over a path that loses, duplicates or reorders is a sample of that as well, and needs more packets.
_TRAINS_S, _LEAST_TRAIN_S, _LEAST_LOSSY_TRAIN_S, _MOST_TRAIN_S = 4.0, 0.15, 0.5, 1.0
_FAN_S = 0.4
# The trains of one round share CPUs as well as links; beyond this they would disturb each other.
ROUND_RATE_BPS = 500_000_000
_FANS_RATE_BPS = 60_000_000
# A queue with room for fewer frames overflows whenever a probe is slightly late.
_ROOMY_FRAMES = 16
_OVERLOAD = 1.3
# Under load a delay line is judged by frames at half of the link's rate, as far as they are not too many for the
# machine, nor too few to show anything in that time; such slow links are loaded by the echoes.
_LOAD_SHARE, _MOST_LOAD_BPS = 0.5, 20_000_000
_LEAST_LOAD_S, _MOST_LOAD_S, _LEAST_LOAD_FRAMES, _LOAD_DRAWS = 0.15, 10.0, 12, 24
_CALM_SHARE = 0.9

Direction = Literal["in", "out"]
_NONE = frozenset[int]()


@dataclass(frozen=True)
class Fan:
    """One node and all its peers at once: `in` through its downlink, `out` through its uplink.

    `paces_bps`: the rate that each peer offers, or is offered. `rate_bps`: the rate that should pass in all.
    """

    node: int
    direction: Direction
    peers: tuple[int, ...]
    paces_bps: tuple[float, ...]
    rate_bps: float

    @property
    def edges(self) -> list[Edge]:
        """The directed links that carry it, in the order of `peers`."""
        return [(peer, self.node) if self.direction == "in" else (self.node, peer) for peer in self.peers]


def schedule_rounds(edges: Sequence[Edge], plans: Sequence[InterfacePlan] = ()) -> list[list[Edge]]:
    """Split directed edges into rounds in which no node sends twice nor receives twice, nor two edges pass one shared
    link in the core of the `plans`.

    Edges of equal distance (dst − src) mod n never conflict, so taking them in that order makes rings,
    complete and exponential graphs need exactly as many rounds as a node has neighbours.
    """
    count = 1 + max((rank for edge in edges for rank in edge), default=0)
    rounds: list[list[Edge]] = []
    core = core_numbers(plans, edges) if plans else {}
    for source, target in sorted(set(edges), key=lambda edge: ((edge[1] - edge[0]) % count, edge)):
        for batch in rounds:
            if all(
                source != a and target != b and not core.get((source, target), _NONE) & core.get((a, b), _NONE)
                for a, b in batch
            ):
                batch.append((source, target))
                break
        else:
            rounds.append([(source, target)])
    return rounds


def calm_parts(batch: Sequence[Edge], plans: Sequence[InterfacePlan], share: float = 1.0) -> list[list[Edge]]:
    """Split a round whose trains would add up to more than `share` of what one machine carries undisturbed."""
    parts: list[list[Edge]] = []
    load = inf
    for edge in batch:
        rate_bps = path_rate_bps(plans, *edge) or ROUND_RATE_BPS
        packets_per_s = rate_bps / (_FRAME_BITS * plans[edge[0]].segments)
        need = max(rate_bps / ROUND_RATE_BPS, packets_per_s / _ROUND_PACKETS_PER_S) / share
        if load + need > 1:
            parts.append([])
            load = 0.0
        parts[-1].append(edge)
        load += need
    return parts


def path_of(plans: Sequence[InterfacePlan], edge: Edge) -> PathPlan:
    """The planned path of a directed link."""
    return plans[edge[1]].paths.get(plans[edge[0]].address, PathPlan())


def echo_interval_s(plans: Sequence[InterfacePlan], edges: Sequence[Edge]) -> float:
    """The interval between echoes of one link while all `edges` are measured at once.

    No shorter than the machine and the slowest interface can bear, and so long that they tell much about jitter.
    """
    interval_s = max(_ECHO_INTERVAL_S, len(edges) / _ECHOES_PER_S)
    for edge in edges:
        interval_s = max(interval_s, 4 * max(path_of(plans, e).jitter_ms for e in (edge, edge[::-1])) / 1000)
        if (limit := plans[edge[1]].limits.get(plans[edge[0]].address)) is not None:
            interval_s = max(interval_s, 2 * ECHO_FRAME_BITS / (_ECHO_SHARE * limit.rate_bps))
    crossed = [limit for edge in edges for e in (edge, edge[::-1]) for limit in shared_limits(plans, e)]
    counts = Counter(limit.number for limit in crossed)
    for shared in crossed:
        least_s = (counts[shared.number] + 1) * ECHO_FRAME_BITS / (_ECHO_SHARE * shared.rate_bps)
        interval_s = max(interval_s, least_s)
    for rank, plan in enumerate(plans):
        crossing = sum(rank in edge for edge in edges)  # an echo goes one way and its reply the other
        slowest_bps = min((rate for rate in (plan.up_bps, plan.down_bps) if rate is not None), default=None)
        if slowest_bps is not None:
            interval_s = max(interval_s, crossing * ECHO_FRAME_BITS / (_ECHO_SHARE * slowest_bps))
    return interval_s


def echo_count(interval_s: float, again: bool = False) -> int:
    """Echoes for each link: as many as fit the time, at least 40; `again` for the second look."""
    return min(_MOST_ECHOES, max(_LEAST_ECHOES, round(_ECHOES_S / interval_s)) * (2 if again else 1))


def train_seconds(rounds: int, path: PathPlan, again: bool = False) -> float:
    """The duration of a train. Jitter blurs both its ends, so it must be much longer than the jitter."""
    whole = path.is_whole and not path.reorder_percent
    least_s = _LEAST_TRAIN_S if whole else _LEAST_LOSSY_TRAIN_S
    share_s = (4 if again else 1) * max(least_s, _TRAINS_S / max(1, rounds))
    return max(min(_MOST_TRAIN_S, share_s), (80 if again else 40) * path.jitter_ms / 1000)


def load_train(plans: Sequence[InterfacePlan], edge: Edge, again: bool = False) -> tuple[float, int] | None:
    """(pace in bit/s, frames) of a train that loads a link without filling it; None: it is too slow for that.

    As long as a few dozen independent draws of its jitter take.
    """
    path, rate_bps = path_of(plans, edge), path_rate_bps(plans, *edge)
    if path.loss_percent >= 100:
        return None
    pace_bps = min(_MOST_LOAD_BPS, _LOAD_SHARE * (rate_bps or inf))
    load_s = (3 if again else 1) * max(_LEAST_LOAD_S, _LOAD_DRAWS * draw_s(path))
    frames = round(min(load_s, _MOST_LOAD_S) * pace_bps / _FRAME_BITS)
    return (pace_bps, frames) if frames >= _LEAST_LOAD_FRAMES else None


def draw_s(path: PathPlan, share: float = 0.75) -> float:
    """How far apart packets must be for their jitter to be independent, as far as the quantile `share` goes, s."""
    return independent_s(path.jitter_distribution, path.jitter_ms, share) if path.wanders else 0.0


def is_gentle(plans: Sequence[InterfacePlan], edge: Edge) -> bool:
    """Whether a train can fill a link without its queues dropping any of it, so that its losses are the path's."""
    return _room_bytes(plans, edge) >= _ROOMY_FRAMES * FRAME_BYTES and all(
        plans[rank].queue == "fifo" for rank in edge
    )


def train_pace_bps(plans: Sequence[InterfacePlan], edge: Edge, packets: int) -> float:
    """A pace above the link's rate, so that a link that is too fast is detected.

    The excess is at most half of the smaller buffer, so that nothing overflows and every loss is the path's; where
    queues drop in any case, it is enough to keep them filled.
    """
    rate_bps = path_rate_bps(plans, *edge)
    assert rate_bps is not None
    if not is_gentle(plans, edge):
        return rate_bps * _OVERLOAD
    return rate_bps * (1 + min(0.2, 0.5 * _room_bytes(plans, edge) / (packets * FRAME_BYTES)))


def _room_bytes(plans: Sequence[InterfacePlan], edge: Edge) -> float:
    source, target = plans[edge[0]], plans[edge[1]]
    up = source.buffer_bytes_up if source.up_bps is not None else inf
    for shared in shared_limits(plans, edge):
        up = min(up, shared.buffer_bytes)
    if (limit := target.limits.get(source.address)) is not None:
        return min(up, limit.buffer_bytes)
    return min(up, target.buffer_bytes_down if target.down_bps is not None else inf)


def full_buffers_s(source: InterfacePlan, target: InterfacePlan) -> float:
    """How long full buffers on the way from one node to another hold a packet, at most."""
    seconds = 8 * source.buffer_bytes_up / source.up_bps if source.up_bps else 0.0
    for shared in (*target.shared_in, *source.shared_out):
        if source.address in shared.peers or target.address in shared.peers:  # its other paths may take turns
            seconds += 8 * shared.buffer_bytes * len(shared.peers) / shared.rate_bps
    if (limit := target.limits.get(source.address)) is not None:
        return seconds + 8 * limit.buffer_bytes / min(limit.rate_bps, target.down_bps or limit.rate_bps)
    return seconds + (8 * target.buffer_bytes_down / target.down_bps if target.down_bps else 0.0)


def fans(plans: Sequence[InterfacePlan], edges: Sequence[Edge]) -> list[Fan]:
    """Every node with several peers that send to it, or that it sends to, where some rate is limited.

    A fan overloads the tested interface by 30% and stays below the limits of the peers and of their paths; where the
    peers together cannot do that, each offers (or is offered) more than its own limit, and the sum of those limits
    should pass. The paths of a shared link that the node limits are a fan as well.
    """
    found = []
    for direction in ("in", "out"):
        near, far = ("down_bps", "up_bps") if direction == "in" else ("up_bps", "down_bps")
        hub_of, peer_of = (1, 0) if direction == "in" else (0, 1)
        for node in sorted({edge[hub_of] for edge in edges}):
            peers = tuple(
                sorted(
                    edge[peer_of]
                    for edge in set(edges)
                    if edge[hub_of] == node and path_of(plans, edge).loss_percent < 100
                )
            )
            hub_bps = getattr(plans[node], near) or inf
            ends = {peer: (peer, node) if direction == "in" else (node, peer) for peer in peers}
            far_bps = {
                peer: min(getattr(plans[peer], far) or inf, _own_bps(plans, edge)) for peer, edge in ends.items()
            }
            passed = {peer: {limit.number: limit for limit in shared_limits(plans, ends[peer])} for peer in peers}
            rates = {number: limit.rate_bps for limits in passed.values() for number, limit in limits.items()}
            groups = {number: [peer for peer in peers if number in passed[peer]] for number in rates}
            for number in sorted(rates, key=rates.__getitem__):
                members = {peer: far_bps[peer] for peer in groups[number]}
                others = [(rates[other], groups[other]) for other in rates if other != number]
                found += _fan(node, direction, _together(members, others), min(hub_bps, rates[number]))
            found += _fan(node, direction, _together(far_bps, [(rates[n], groups[n]) for n in rates]), hub_bps)
    return list(dict.fromkeys(found))


def _together(far_bps: Mapping[int, float], groups: Sequence[tuple[float, Sequence[int]]]) -> dict[int, float]:
    """The rate that each peer can have while all of these send, where groups of them have a rate together."""
    found = dict(far_bps)
    for rate_bps, members in sorted(groups, key=lambda group: group[0]):
        left_bps, waiting = rate_bps, sorted((found[peer], peer) for peer in members if peer in found)
        while waiting:
            own_bps, peer = waiting.pop(0)
            found[peer] = min(own_bps, left_bps / (len(waiting) + 1))
            left_bps -= found[peer]
    return found


def _fan(node: int, direction: Direction, far_bps: Mapping[int, float], hub_bps: float) -> list[Fan]:
    """The fan of these peers, by the rate that each can have, if there is anything to see."""
    rate_bps = min(hub_bps, sum(far_bps.values()))
    if len(far_bps) < 2 or rate_bps > ROUND_RATE_BPS:
        return []
    return [Fan(node, direction, tuple(far_bps), tuple(_fan_paces(hub_bps, list(far_bps.values()))), rate_bps)]


def shared_limits(plans: Sequence[InterfacePlan], edge: Edge) -> list[SharedLimit]:
    """The shared links that a directed link passes, as its receiver sees them."""
    return [limit for limit in plans[edge[1]].shared_in if plans[edge[0]].address in limit.peers]


def core_numbers(plans: Sequence[InterfacePlan], edges: Sequence[Edge]) -> dict[Edge, frozenset[int]]:
    """The numbers of the shared links in the core that directed links pass."""
    return {
        edge: frozenset(limit.number for limit in shared_limits(plans, edge) if limit.at == "core") for edge in edges
    }


def _own_bps(plans: Sequence[InterfacePlan], edge: Edge) -> float:
    limit = plans[edge[1]].limits.get(plans[edge[0]].address)
    shared = [limit.rate_bps for limit in shared_limits(plans, edge)]
    return min([*shared, *([limit.rate_bps] if limit is not None else [])], default=inf)


def unseen_together(plans: Sequence[InterfacePlan], measured: Sequence[Fan]) -> list[str]:
    """The shared links whose paths were not measured together by any of these fans, in words: of those nothing is
    known but that each path by itself has no more than the link's rate.
    """
    seen = [(set(fan.edges), fan.rate_bps) for fan in measured]
    return [
        f"the {shared_bps / 1e6:g} Mbit/s that "
        f"{' '.join(f'{a}→{b}' for a, b in sorted(named))} share: each was measured by itself, and not all at once"
        for named, shared_bps in shared_pairs(plans)
        if not any(edges == named and rate_bps <= shared_bps for edges, rate_bps in seen)
    ]


def _fan_paces(hub_bps: float, far_bps: Sequence[float]) -> list[float]:
    """The rate that each peer offers: equal parts of the overload, but no more than its own limit passes calmly."""
    capped: dict[int, float] = {}
    while len(capped) < len(far_bps):
        part = (_OVERLOAD * hub_bps - sum(capped.values())) / (len(far_bps) - len(capped))
        over = {i: _CALM_SHARE * far for i, far in enumerate(far_bps) if i not in capped and part > _CALM_SHARE * far}
        if not over:
            return [capped.get(i, part) for i in range(len(far_bps))]
        capped |= over
    return [_OVERLOAD * min(hub_bps, far) for far in far_bps]


def fan_groups(plans: Sequence[InterfacePlan], wanted: Sequence[Fan]) -> list[list[Fan]]:
    """Fans that may run at once: of one direction, and no peer's own limit is in the way of any of them, nor a shared
    link in the core that two of them pass.
    """
    groups: list[tuple[list[Fan], dict[int, float]]] = []
    for fan in wanted:
        far = "up_bps" if fan.direction == "in" else "down_bps"
        fan_end = "receiver" if fan.direction == "in" else "sender"
        limits = []
        for peer, edge in zip(fan.peers, fan.edges, strict=True):
            shared = (limit.rate_bps for limit in shared_limits(plans, edge) if limit.at not in (fan_end, "core"))
            limits.append(min(getattr(plans[peer], far) or inf, *shared, inf))
        need = {
            peer: pace / (_CALM_SHARE * limit)
            for peer, pace, limit in zip(fan.peers, fan.paces_bps, limits, strict=True)
        }
        core = _core_of(plans, fan)
        for members, load in groups:
            calm = all(core.isdisjoint(_core_of(plans, member)) for member in members)
            calm = calm and all(load.get(peer, 0.0) + share <= 1 for peer, share in need.items())
            calm = calm and all(fan.node != member.node for member in members)
            rate_bps = sum(member.rate_bps for member in members) + fan.rate_bps
            if members[0].direction == fan.direction and calm and rate_bps <= _FANS_RATE_BPS:
                members.append(fan)
                load |= {peer: load.get(peer, 0.0) + share for peer, share in need.items()}
                break
        else:
            groups.append(([fan], need))
    return [members for members, _ in groups]


def _core_of(plans: Sequence[InterfacePlan], fan: Fan) -> frozenset[int]:
    return _NONE.union(*core_numbers(plans, fan.edges).values())


def fan_seconds(fan: Fan, jitter_ms: float, again: bool = False) -> float:
    """The duration: at least eight packets of every peer, and much longer than the jitter that blurs both ends."""
    slowest_bps = min(fan.rate_bps / len(fan.peers), *fan.paces_bps)
    return (3 if again else 1) * max(_FAN_S, 8 * _FRAME_BITS / slowest_bps, 20 * jitter_ms / 1000)
