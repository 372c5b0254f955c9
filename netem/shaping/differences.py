"""Compares the applied state with a plan, field by field, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from gannet.netem.links.plan import InterfacePlan, PathPlan
from gannet.netem.shaping.rules import source_number
from gannet.netem.shaping.tc import shared_limit
from gannet.netem.shaping.trees import out_class, source_groups

_NONE: Mapping[int, Mapping[str, Any]] = {}
Buckets = Mapping[str, Mapping[str, Any] | None]


def plan_differences(
    plan: InterfacePlan,
    buckets: Buckets,
    paths: Mapping[str, Mapping[str, Any]],
    link: Mapping[str, Any],
    limits: Mapping[int, Mapping[str, Any]] = _NONE,
    sent: Mapping[int, Mapping[str, Any]] = _NONE,
) -> list[str]:
    """Differences between the state read back and `plan`; empty: none.

    `buckets`, `limits`, `sent`: from gannet.netem.engines.base.read_buckets and read_limits, these of what is
    received and of what is sent; `paths`: from Engine.paths; `link`: from gannet.netem.agent.sysctls.link_settings.
    """
    return [
        *_bucket_differences(plan, buckets),
        *_limit_differences(plan.queue, _received(plan), limits),
        *_limit_differences(plan.queue, _sent(plan), sent),
        *unannounced_differences(plan, paths, link),
    ]


def unannounced_differences(
    plan: InterfacePlan, paths: Mapping[str, Mapping[str, Any]], link: Mapping[str, Any]
) -> list[str]:
    """The same for what may change without a kernel event that is listened to: iptables' rules, segments in a packet,
    and Ethernet addresses (`neighbours` of `link`).
    """
    found = [words for source, path in plan.paths.items() for words in _path_differences(source, path, paths)]
    segments = link.get("gso_max_segs", plan.segments)
    if segments != plan.segments:
        found.append(f"segments in one packet are up to {segments}, not {plan.segments}")
    known = link.get("neighbours", plan.hardware)
    wrong = [address for address, hardware in plan.hardware.items() if known.get(address) != hardware]
    if wrong:
        first, more = wrong[0], f" (and {len(wrong) - 1} others)" if len(wrong) > 1 else ""
        found.append(
            f"the Ethernet address of {first} is {known.get(first, 'unknown')}, not {plan.hardware[first]}{more}"
        )
    return found


def _bucket_differences(plan: InterfacePlan, buckets: Buckets) -> Iterator[str]:
    for direction, rate_bps, buffer_bytes, buffer_packets, held in (
        ("up", plan.up_bps, plan.buffer_bytes_up, plan.buffer_packets_up, plan.up_held),
        ("down", plan.down_bps, plan.buffer_bytes_down, plan.buffer_packets_down, plan.down_held),
    ):
        bucket = buckets[direction]
        if bucket is None or rate_bps is None:
            if (bucket is None) != (rate_bps is None):
                yield f"{direction}_bps is {bucket and bucket['rate_bps']}, not {rate_bps}"
            continue
        if not _same_rate(bucket["rate_bps"], rate_bps):
            yield f"{direction}_bps is {bucket['rate_bps']}, not {rate_bps}"
        if bucket["held"] != held:
            yield f"{direction} is {'' if bucket['held'] else 'not '}held, as in an outage"
        if direction == "down" and bucket["per_source"] != (plan.down_queue == "per-source"):
            yield f"down_queue is {'per-source' if bucket['per_source'] else 'shared'}, not {plan.down_queue}"
        yield from _buffer_differences(plan.queue, bucket, direction, buffer_bytes, buffer_packets)


# Where a class's limit is, its rate, and its buffer in bytes and packets; None: it has none of its own.
_Wanted = tuple[str, int, tuple[int, int | None] | None]


def _received(plan: InterfacePlan) -> dict[int, _Wanted]:
    """The limits of what is received, by the numbers of their classes: of sources, and of shared links."""
    wanted: dict[int, _Wanted] = {}
    groups = source_groups(plan)
    for source in plan.paths:
        shared, own = shared_limit(plan, source), plan.limits.get(source)
        limits = [limit for limit in (own, shared) if limit is not None]
        if not limits:
            continue
        rate_bps, size = min(limit.rate_bps for limit in limits), (limits[0].buffer_bytes, limits[0].buffer_packets)
        wanted[source_number(source)] = f"from {source}", rate_bps, size
        if shared is not None:
            wanted[groups[source]] = f"shared from {', '.join(shared.peers)}", shared.rate_bps, None
    return wanted


def _sent(plan: InterfacePlan) -> dict[int, _Wanted]:
    """The limits of what is sent over shared links, likewise."""
    return {
        out_class(limit.number): (
            f"shared to {', '.join(limit.peers)}",
            limit.rate_bps,
            (limit.buffer_bytes, limit.buffer_packets),
        )
        for limit in plan.shared_out
    }


def _limit_differences(
    queue: str, wanted: Mapping[int, _Wanted], limits: Mapping[int, Mapping[str, Any]]
) -> Iterator[str]:
    """Limits that differ, are missing, or that nothing asks for."""
    for number in limits.keys() - wanted.keys():
        yield f"class {number:x} has a rate of {limits[number]['rate_bps']}, and should have none"
    for number, (where, rate_bps, size) in wanted.items():
        found = limits.get(number)
        if found is None or not _same_rate(found["rate_bps"], rate_bps):
            yield f"rate_bps {where} is {found and found['rate_bps']}, not {rate_bps}"
        if found is not None and size is not None:
            yield from _buffer_differences(queue, found, where, *size)


def _same_rate(found_bps: int, wanted_bps: int) -> bool:
    """tc rounds rates to bytes and bursts to timer ticks."""
    return abs(found_bps - wanted_bps) <= 8 + wanted_bps / 1000


def _buffer_differences(
    queue: str, found: Mapping[str, Any], where: str, buffer_bytes: int, buffer_packets: int | None
) -> Iterator[str]:
    if found["queue"] != queue:
        yield f"queue {where} is {found['queue']}, not {queue}"
    by_bytes = buffer_packets is None and queue == "fifo"
    if (buffer_packets is not None or by_bytes) and found["buffer_packets"] != buffer_packets:
        yield f"buffer_packets_{where} is {found['buffer_packets']}, not {buffer_packets}"
    if by_bytes and abs(found["buffer_bytes"] - buffer_bytes) > 100 + buffer_bytes / 100:
        yield f"buffer_bytes_{where} is {found['buffer_bytes']}, not {buffer_bytes}"


def _path_differences(source: str, path: PathPlan, paths: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    wanted = _flat(asdict(path))
    found = _flat({**asdict(PathPlan()), **paths.get(source, {})})
    for field in sorted(wanted.keys() | found.keys(), key=[*wanted, *found].index):
        want, got = wanted.get(field), found.get(field)
        if field in ("jitter_distribution", "jitter_order") and not path.jitter_ms:
            continue  # of no jitter
        if isinstance(want, int | float) and isinstance(got, int | float):
            if abs(got - want) <= 0.001 + abs(want) / 1000:
                continue
        elif want == got:
            continue
        yield f"{field} from {source} is {got}, not {want}"


def _flat(path: Mapping[str, Any]) -> dict[str, Any]:
    """A path with its bursts field by field; without those fields where there are no bursts."""
    flat = {field: value for field, value in path.items() if field != "bursts"}
    return flat | {f"bursts.{field}": value for field, value in (path.get("bursts") or {}).items()}
