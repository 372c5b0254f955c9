"""The trees of queues of an interface, uplink and downlink: the tc lines that lead from one plan to another. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gannet.netem.links.plan import InterfacePlan, PathPlan
from gannet.netem.shaping.lines import BUCKET, CLASSIFIER, OTHERS, Line
from gannet.netem.shaping.programs import classify, classify_targets
from gannet.netem.shaping.rules import source_number
from gannet.netem.shaping.tc import (
    bucket,
    buffer,
    down_buffer,
    new_bucket,
    new_class,
    new_classifier,
    path_seed,
    shared_limit,
    source_lines,
    source_rate,
    up_buffer,
)


@dataclass(frozen=True)
class Applied:
    """The state of a device: the plan, and what was built for it or for earlier ones.

    `classified`: the downlink has a class for each source in `handles`, whose values are the handles of their netem
    qdiscs (engine netem) or 0 (engine nfqueue). `stepped`: the handles of the second netem, which has the delay, of
    the sources whose jitter is or has been in order. `seeded`: the first ones take their random numbers from the
    plan's seed. `groups`: by source, the class of the shared link of its path; `up_groups`: the numbers of the shared
    links that have a class at the uplink.
    """

    plan: InterfacePlan
    up: bool = False
    down: bool = False
    tee: bool = False
    classified: bool = False
    handles: Mapping[str, int] = field(default_factory=dict)
    stepped: Mapping[str, int] = field(default_factory=dict)
    seeded: bool = False
    groups: Mapping[str, int] = field(default_factory=dict)
    up_groups: tuple[int, ...] = ()


def ifb_name(device: str) -> str:
    """The IFB that carries what arrives on `device`: a name of at most 15 bytes, the same every time."""
    name = f"ifb-{device}"
    return name if len(name) <= 15 else f"ifb-{zlib.crc32(device.encode()):08x}"


def up_lines(now: Applied, before: Applied | None) -> list[Line]:
    """The lines of the uplink: its rate, its buffer, and those of the shared links that begin here."""
    plan, old = now.plan, before.plan if before else None
    device = plan.device
    rate = bucket(device, plan.up_bps)
    lines: list[Line] = changed_lines([rate], [bucket(device, old.up_bps)] if old else [], [new_bucket(device)])
    if before is not None and bool(before.up_groups) != bool(now.up_groups):
        old = before = None  # below the bucket all is new
    if not now.up_groups:
        return lines + changed_lines([up_buffer(plan, (BUCKET, 1))], [up_buffer(old, (BUCKET, 1))] if old else [], [])
    if old is None:
        lines += new_classifier(device)
    top = CLASSIFIER, OTHERS
    lines += changed_lines([up_buffer(plan, top)], [up_buffer(old, top)] if old else [], [])
    for number in now.up_groups:
        said = _out_lines(before.plan, number) if before and number in before.up_groups else []
        lines += changed_lines(_out_lines(plan, number), said, [new_class(device, out_class(number))])
    filters = [_out_filter(plan)]
    return lines + changed_lines(filters, [_out_filter(old)] if old and old.shared_out else [], [])


def out_class(number: int) -> int:
    """The uplink's class of a shared link, by its number."""
    return number + 1


def _out_lines(plan: InterfacePlan, number: int) -> list[Line]:
    """Rate and buffer of a shared link at its sender; where the plan has it no more, nothing is limited."""
    limit = next((limit for limit in plan.shared_out if limit.number == number), None)
    own = out_class(number)
    if limit is None:
        return [bucket(plan.device, None, own), up_buffer(plan, (CLASSIFIER, own))]
    size = limit.buffer_bytes, limit.buffer_packets
    return [
        bucket(plan.device, limit.rate_bps, own),
        buffer(plan.device, (CLASSIFIER, own), plan.queue, limit.rate_bps, size),
    ]


def _out_filter(plan: InterfacePlan) -> str:
    return classify_targets(plan.device, {out_class(limit.number): limit.peers for limit in plan.shared_out})


def source_groups(plan: InterfacePlan) -> dict[str, int]:
    """By source, the class of the shared link of its path that is limited where it ends: a number of no source.

    All that pass none have a class together, without a limit: HTB would serve them first if they were its own.
    """
    limits = [limit for limit in plan.shared_in if limit.at == "receiver"]
    if not limits:
        return {}
    taken = {source_number(source) for source in plan.paths}
    free = (number for number in range(BUCKET - 1, 0, -1) if number not in taken)
    rest = next(free)
    shared = {source: number for limit, number in zip(limits, free, strict=False) for source in limit.peers}
    return {source: shared.get(source, rest) for source in plan.paths}


def _group_bps(standing: Applied, group: int) -> int | None:
    """The rate of that class; None: the plan has the shared link no more."""
    sources = [source for source, number in standing.groups.items() if number == group]
    found = (limit for source in sources if (limit := shared_limit(standing.plan, source)) is not None)
    return next((limit.rate_bps for limit in found), None)


def changed_lines(lines: Sequence[Line], old: Sequence[Line], new: Sequence[Line]) -> list[Line]:
    """All lines of `new` where nothing is built yet, else those that differ from the old ones."""
    return [*new, *lines] if not old else [line for line in lines if line not in old]


def down_lines(now: Applied, before: Applied | None) -> list[Line]:
    plan, old = now.plan, before.plan if before else None
    ifb = ifb_name(plan.device)
    rate = bucket(ifb, plan.down_bps)
    lines: list[Line] = changed_lines([rate], [bucket(ifb, old.down_bps)] if old else [], [new_bucket(ifb)])
    if before is not None and before.groups != now.groups:
        lines.append(f"qdisc del dev {ifb} parent {BUCKET:x}:1")
        old = before = None  # below the bucket all is new
    if before is not None and before.classified != now.classified:
        old = before = None  # likewise
    top = (CLASSIFIER, OTHERS) if now.classified else (BUCKET, 1)
    if now.classified and old is None:
        lines += new_classifier(ifb)
    for group in sorted(set(now.groups.values())):
        rate = bucket(ifb, _group_bps(now, group), group)
        built = [bucket(ifb, _group_bps(before, group), group)] if before else []
        lines += changed_lines([rate], built, [new_class(ifb, group)])
    lines += changed_lines([down_buffer(plan, ifb, top)], [down_buffer(old, ifb, top)] if old else [], [])
    if not now.handles:
        return lines
    filters = [classify(ifb, list(now.handles))]
    lines += changed_lines(filters, [classify(ifb, list(before.handles))] if before and before.handles else [], [])
    for source, handle in now.handles.items():
        number, said = source_number(source), list[Line]()
        if before and source in before.handles:
            was = before.plan.paths.get(source, PathPlan())
            behind = before.stepped.get(source)
            line = before.handles[source]
            said = source_lines(before.plan, ifb, source, number, line, was, _seed(before, source), behind)
        path, behind = plan.paths.get(source, PathPlan()), now.stepped.get(source)
        wanted = source_lines(plan, ifb, source, number, handle, path, _seed(now, source), behind)
        group = now.groups.get(source, 0)
        rate = source_rate(plan, ifb, source, number, group)
        changed = rate != source_rate(before.plan if before and said else None, ifb, source, number, group)
        changed = changed or (group != 0 and not said)
        lines += changed_lines(wanted, said, [new_class(ifb, number, group)]) + ([rate] if changed else [])
    return lines


def _seed(standing: Applied, source: str) -> int | None:
    return path_seed(standing.plan, source) if standing.seeded else None
