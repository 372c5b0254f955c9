"""The tc lines of a plan: token buckets, their queues, and netem. Pure.

Every line is complete and describes the target state, not a difference: the lines of two plans are compared to find
what to change (gannet.netem.shaping.commands).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from gannet.netem.links.jitter import TABLE_MOMENTS
from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import FRAME_BYTES, SMALLEST_FRAME_BYTES, BurstPlan, InterfacePlan, PathPlan
from gannet.netem.shaping.lines import (
    BUCKET,
    CLASSIFIER,
    OTHERS,
    SPLITTER,
    UNLIMITED_BPS,
    UNLIMITED_BYTES,
    WIRE_LIMIT_PACKETS,
    Fifo,
    Line,
    Rate,
    Splitter,
)
from gannet.netem.shaping.unsupported import unsupported

_BURST_S = 0.002
# CoDel's target must not be shorter than the time that the link needs for a packet (RFC 8289, section 5.2.3); these
# are the values of the sqm-scripts: 1.5 frames at least, and the interval as much longer.
_CODEL_TARGET_US, _CODEL_INTERVAL_US = 5_000, 100_000
# netem draws uniform jitter as a 32-bit remainder by twice the jitter in nanoseconds.
_LARGEST_JITTER_MS = 2_000


def wire_limit_packets(rate_bps: int | None, path: PathPlan) -> int:
    """How many packets a delay line must hold so that it never drops: the smallest frames, back to back.

    Computed for at least 1 Gbit/s, so that a rate that changes below that changes no delay line.
    """
    if rate_bps is None:
        return WIRE_LIMIT_PACKETS
    held_s = (path.delay_ms + 5 * path.jitter_ms) / 1000 + 0.1
    return min(WIRE_LIMIT_PACKETS, round(max(rate_bps, 10**9) * held_s / (8 * SMALLEST_FRAME_BYTES)))


def bucket(device: str, rate_bps: int | None, source: int = 0, group: int = 0) -> Rate:
    """The rate of a token bucket, or of a source's class, or of a shared link's; None: no limit."""
    rate = UNLIMITED_BPS if rate_bps is None else rate_bps
    # The burst lets a late timer catch up; at least two frames, or slow links lose rate.
    return Rate(device, rate, max(2 * FRAME_BYTES, round(rate * _BURST_S / 8)), source, group)


def source_rate(plan: InterfacePlan | None, ifb: str, source: str, number: int, group: int = 0) -> Rate:
    """The rate of a source's class, below that of a group or none (0); `plan` None: of a new class without limit."""
    limit, shared = (plan.limits.get(source), shared_limit(plan, source)) if plan else (None, None)
    rates = [each.rate_bps for each in (limit, shared) if each is not None]
    return bucket(ifb, min(rates, default=None), number, group)


def shared_limit(plan: InterfacePlan, source: str) -> SharedLimit | None:
    """The shared link of a source's path that is limited here, where it ends."""
    found = (limit for limit in plan.shared_in if limit.at == "receiver" and source in limit.peers)
    return next(found, None)


def behind_splitter(device: str, plan: InterfacePlan, old: InterfacePlan | None, lines: list[Line]) -> list[Line]:
    """The lines of all that is behind the splitter of a device, with its own where that changes (old: None: is new).

    It begins to hold before anything else changes, and ends when all is as it should be.
    """

    def splitter(plan: InterfacePlan) -> Splitter:
        return Splitter(device, plan.segments, plan.up_held if device == plan.device else plan.down_held)

    now, was = splitter(plan), None if old is None else splitter(old)
    if now == was:
        return lines
    return [*lines, now] if was is not None and was.held and not now.held else [now, *lines]


def new_bucket(device: str) -> str:
    """The qdisc that holds a token bucket. HTB, because tbf fills up whenever it is changed: rates that follow a
    trace would be exceeded by a burst at each step (17% at 1 Mbit/s and ten steps a second).
    """
    return f"qdisc add dev {device} parent {SPLITTER:x}:1 handle {BUCKET:x}: htb default 1"


def queue_packets(queue: str, buffer_bytes: int, buffer_packets: int | None) -> int | None:
    """Packets that the buffer of a rate limit holds; None where bytes count instead."""
    if queue == "fifo" or buffer_packets is not None:
        return buffer_packets
    return max(2, buffer_bytes // FRAME_BYTES)


def buffer(
    device: str, parent: tuple[int, int], queue: str, rate_bps: int | None, size: tuple[int, int | None]
) -> Line:
    """The buffer below `parent`, `size` in bytes or packets; where nothing limits the rate, it never drops."""
    if rate_bps is None:
        return Fifo(device, parent, "bfifo", UNLIMITED_BYTES)
    packets = queue_packets(queue, *size)
    if packets is None:
        return Fifo(device, parent, "bfifo", size[0])
    if queue == "fifo":
        return Fifo(device, parent, "pfifo", packets)
    target_us = max(_CODEL_TARGET_US, round(1.5 * FRAME_BYTES * 8e6 / rate_bps))
    codel = f"target {target_us}us interval {_CODEL_INTERVAL_US - _CODEL_TARGET_US + target_us}us"
    text = {
        "codel": f"codel limit {packets} {codel}",
        "fq_codel": f"fq_codel limit {packets} {codel} quantum {FRAME_BYTES}",
        "sfq": f"sfq limit {max(2, packets)} depth {min(127, max(2, packets))} quantum {FRAME_BYTES}",
    }[queue]
    return f"qdisc replace dev {device} parent {parent[0]:x}:{parent[1]:x} {text}"


def up_buffer(plan: InterfacePlan, parent: tuple[int, int]) -> Line:
    """The buffer of the uplink."""
    return buffer(plan.device, parent, plan.queue, plan.up_bps, (plan.buffer_bytes_up, plan.buffer_packets_up))


def down_buffer(plan: InterfacePlan, ifb: str, parent: tuple[int, int], source: str = "") -> Line:
    """A buffer of the downlink: that of one source, or of all others."""
    if (limit := plan.limits.get(source)) is not None:
        return buffer(ifb, parent, plan.queue, limit.rate_bps, (limit.buffer_bytes, limit.buffer_packets))
    if (shared := shared_limit(plan, source)) is not None:
        return buffer(ifb, parent, plan.queue, shared.rate_bps, (shared.buffer_bytes, shared.buffer_packets))
    return buffer(ifb, parent, plan.queue, plan.down_bps, (plan.buffer_bytes_down, plan.buffer_packets_down))


def new_classifier(ifb: str) -> list[Line]:
    """HTB as a classifier below the downlink's bucket (its own rates limit nothing), and the class for all other
    sources.
    """
    return [
        f"qdisc replace dev {ifb} parent {BUCKET:x}:1 handle {CLASSIFIER:x}: htb default {OTHERS:x}",
        new_class(ifb, OTHERS),
    ]


def new_class(ifb: str, number: int, group: int = 0) -> str:
    """A class of the classifier, below that of a group or none (0)."""
    limits = f"rate {UNLIMITED_BPS}bit ceil {UNLIMITED_BPS}bit burst 1m cburst 1m quantum {FRAME_BYTES}"
    parent = f"{CLASSIFIER:x}:{group:x}" if group else f"{CLASSIFIER:x}:"
    return f"class add dev {ifb} parent {parent} classid {CLASSIFIER:x}:{number:x} htb {limits}"


def netem_jitter_ms(path: PathPlan) -> tuple[float, float]:
    """Delay and jitter to give to netem so that the packets' delay has the plan's mean and deviation.

    netem draws the jitter of each packet. In order, see source_lines.
    """
    if not path.reorders:
        return path.delay_ms, 0.0
    mean, deviation = TABLE_MOMENTS.get(path.jitter_distribution, (0.0, 1.0))
    jitter_ms = path.jitter_ms / deviation
    return path.delay_ms - mean * jitter_ms, jitter_ms


def netem_loss(path: PathPlan) -> BurstPlan | float:
    """netem's loss, in one clause: with bursts, random loss is part of the loss in either state."""
    if path.bursts is None or path.loss_percent >= 100:
        return path.loss_percent
    passed = 1 - path.loss_percent / 100

    def both(percent: float) -> float:
        return 100 * (1 - passed * (1 - percent / 100)) if path.loss_percent else percent

    bursts = path.bursts
    return BurstPlan(
        bursts.good_to_bad_percent,
        bursts.bad_to_good_percent,
        both(bursts.loss_in_bad_percent),
        both(bursts.loss_in_good_percent),
    )


def netem_cannot(plan: InterfacePlan) -> str:
    """The part of a plan that engine netem cannot execute; empty: none."""
    if cannot := unsupported(plan, "netem"):
        return cannot
    if plan.down_queue == "shared":
        return "down_queue: shared; its delay lines come before the buffer; use engine nfqueue, or per-source"
    for source, path in plan.paths.items():
        if path.reorders and path.jitter_ms > _LARGEST_JITTER_MS:
            return (
                f"path from {source}: a jitter of {path.jitter_ms:g} ms is beyond the {_LARGEST_JITTER_MS} of netem"
            )
    return ""


def path_seed(plan: InterfacePlan, source: str) -> int:
    """The 64-bit seed of one source's netem, different for every path of a run."""
    text = f"{plan.seed}: {source} to {plan.address}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def draws(path: PathPlan) -> bool:
    """Whether netem needs random numbers for this path."""
    at_random = 0 < path.loss_percent < 100 or path.bursts is not None
    return at_random or bool(path.reorders or path.reorder_percent or path.corrupt_percent)


def netem(down_bps: int | None, path: PathPlan, seed: int | None = None, limit: int | None = None) -> str:
    """The netem of one source, which holds `limit` packets, or as many as its link can carry.

    It makes no duplicates: new kernels refuse a duplicating netem next to others.
    """
    delay_ms, jitter_ms = netem_jitter_ms(path)
    text = f"netem limit {limit or wire_limit_packets(down_bps, path)}"
    # tc wants a delay where there is a jitter with a distribution.
    text += f" delay {_us(max(delay_ms, 0.001 if has_table(path) else 0.0))}"
    if path.reorders:
        text += f" {_us(jitter_ms)}" + (f" distribution {path.jitter_distribution}" if has_table(path) else "")
    loss = netem_loss(path)
    if isinstance(loss, BurstPlan):
        figures = (
            loss.good_to_bad_percent,
            loss.bad_to_good_percent,
            loss.loss_in_bad_percent,
            loss.loss_in_good_percent,
        )
        text += " loss gemodel " + " ".join(f"{figure:.9g}%" for figure in figures)
    elif loss > 0:
        text += f" loss random {loss:.9g}%"
    if path.reorder_percent > 0 and delay_ms > 0:
        text += f" reorder {path.reorder_percent:.9g}%"
    # Stated even if 0: netem keeps the corruption that a change does not mention.
    text += f" corrupt {path.corrupt_percent:.9g}%"
    if seed is not None and draws(path):
        text += f" seed {seed}"
    # A rate makes netem send each packet after the one before: a change to a shorter delay can then not make packets
    # overtake those in flight. Stated also where it is none: netem keeps a rate that a change does not mention.
    return text + (" rate 0bit" if path.reorders else " rate 100gbit")


def has_table(path: PathPlan) -> bool:
    """Whether netem draws this path's jitter from a table, which it keeps through every change."""
    return path.reorders and path.jitter_distribution != "uniform"


def longest_delay(path: PathPlan) -> PathPlan:
    """The path without jitter, as long as jitter makes it."""
    return replace(path, delay_ms=path.delay_ms + 5 * path.jitter_ms, jitter_ms=0.0)


def source_lines(
    plan: InterfacePlan,
    ifb: str,
    source: str,
    number: int,
    handle: int,
    path: PathPlan,
    seed: int | None = None,
    stepped: int | None = None,
) -> list[Line]:
    """Delay line (unless its handle is 0) and buffer of one source.

    `stepped`: the handle of a second netem, behind the first, that has the delay alone. Its changes then do not touch
    the first one's losses: with each change netem restarts its chain of bursts, and its seed.
    """
    if not handle:
        return [down_buffer(plan, ifb, (CLASSIFIER, number), source)]
    where = f"dev {ifb} parent {CLASSIFIER:x}:{number:x} handle {handle:x}:"
    if stepped is None:
        line = f"qdisc replace {where} {netem(plan.down_bps, path, seed)}"
        return [line, down_buffer(plan, ifb, (handle, 1), source)]
    fates = replace(path, delay_ms=0.0, jitter_ms=0.0, reorder_percent=0.0)
    delays = PathPlan(path.delay_ms, reorder_percent=path.reorder_percent)
    limit = wire_limit_packets(plan.down_bps, longest_delay(path))
    behind = netem(plan.down_bps, delays, limit=limit)
    return [
        f"qdisc replace {where} {netem(plan.down_bps, fates, seed, limit)}",  # it counts what is behind it too
        f"qdisc replace dev {ifb} parent {handle:x}:1 handle {stepped:x}: {behind}",
        down_buffer(plan, ifb, (stepped, 1), source),
    ]


def _us(milliseconds: float) -> str:
    return f"{milliseconds * 1000:.3f}".rstrip("0").rstrip(".") + "us"
