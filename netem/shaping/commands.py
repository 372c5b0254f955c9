"""From a plan to the commands that apply it. Pure: the commands returned here are all that is ever run.

Uplink, at the sender's egress: a token bucket in front of an explicit buffer, and in front of both a splitter.

    DEV root ── tbf (splits packets of many frames) ── htb of one class (up_bps) ── buffer

Downlink, at the receiver's ingress. A fan-in of senders that each keep their own uplink would
overrun a node, so its downlink is a bottleneck of its own; ingress cannot queue, an IFB can.

    engine nfqueue:  DEV ingress ── redirect ── IFB root ── tbf ── htb of one class (down_bps)
                                                            ├─ buffer, shared by all sources (down_queue: shared)
                                                            └─ htb (classifier by BPF: one class per source)
                                                               └─ buffer, per source
                     then mangle PREROUTING ── one NFQUEUE per source ── a process that delays and drops

    engine netem:    DEV ingress ── redirect ── IFB root ── tbf ── htb of one class (down_bps)
                                                            └─ htb (classifier by BPF: one class per source)
                                                               └─ netem (delay, jitter, loss, reorder, corrupt)
                                                                  └─ buffer, per source
                     where jitter keeps packets in order, a second netem behind the first has the delay, which a
                     process changes in steps (gannet.netem.engines.netem_steps)

    both:            filter INPUT ── TEE of some packets to this node itself (duplicate)
                     DEV ingress ── in front of all, a BPF program that drops what belongs to no path (IPv6, VLANs,
                     ARP where Ethernet addresses are given, IPv4 from other addresses: gannet.netem.shaping.programs)

A path with a rate of its own has it at the class of its source, whose own rates else limit nothing: so it costs
nothing for paths that have none. These classes are there where the downlink or any path is limited. Those of the
paths of a shared link are below a class with its rate, and borrow from that; so do all others, from one without a
limit. A shared link that begins here is a class in front of the uplink, with its buffer, in an htb as the downlink's.

Delay and loss act at the receiver: at the sender, delayed packets would count against the socket's
send buffer and TCP would throttle itself. Where sources have buffers of their own, HTB takes turns between them
(deficit round robin). In engine netem the buffer comes after the delay, which is why it cannot be shared.

Changes are made in place. What was once built stays until the links are cleared, even when a plan no longer needs it
(a bucket without limit, a delay line without delay), so that at no moment of a change is a packet sent faster than
the slower of the two plans allows, and no packet waiting in a buffer is lost. The exceptions: a queue of another kind
(shared or not, too) makes a new buffer, and in engine netem jitter that becomes uniform, or begins to be in order or
reordered, a new delay line; the packets in the old one are lost. Where other paths than before share links, all below
the bucket is built again.

Offloads: TCP hands the device packets of many segments (GSO), which shapers and losses would treat
as one packet of up to 64 KB, and a receiver may merge segments again (GRO). `gso_max_segs` is what
TCP itself obeys when it builds a packet (switching TSO off with ethtool only splits packets after the
queue), so that is what is set, for connections opened from then on. `gro_max_size` keeps them apart on arrival.
All other packets of many frames (UDP_SEGMENT, forwarded ones, older connections') are split in front of the queue by
tbf, the only qdisc of those that every kernel has which does so (gannet.netem.shaping.tc.Splitter). In an outage that
keeps packets it lets none pass.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gannet.netem.links.plan import FRAME_BYTES, InterfacePlan
from gannet.netem.shaping.lines import BUCKET, Fifo, Line, Rate, Splitter
from gannet.netem.shaping.programs import fence
from gannet.netem.shaping.rules import (
    FLAT_RULES,
    HOOKS,
    LEAVES,
    chain_name,
    hook_rules,
    parent_rules,
    queue_rules,
    source_numbers,
    tee_rules,
)
from gannet.netem.shaping.tc import behind_splitter, has_table
from gannet.netem.shaping.trees import (
    Applied as Applied,
)
from gannet.netem.shaping.trees import changed_lines, down_lines, source_groups, up_lines
from gannet.netem.shaping.trees import ifb_name as ifb_name

EngineName = Literal["netem", "nfqueue"]
ENGINE_NAMES: tuple[EngineName, ...] = ("netem", "nfqueue")

# The kernel's own defaults, which clear_commands restores.
_KERNEL_SEGMENTS = 65535
_KERNEL_GRO_BYTES = 65536


@dataclass(frozen=True)
class Command:
    """One program run: its arguments, its standard input, and whether it may fail.

    `may_fail` marks the removal of something that may not exist; the result is read back afterwards.
    `changes` are the same lines as data, where netlink alone can carry out all of them.
    """

    argv: tuple[str, ...]
    stdin: str | None = None
    may_fail: bool = False
    changes: tuple[Rate | Fifo | Splitter, ...] = ()

    def __str__(self) -> str:
        line = shlex.join(self.argv) + (" || true" if self.may_fail else "")
        return line if self.stdin is None else f"{line} <<END\n{self.stdin}END"


def apply_commands(
    plan: InterfacePlan,
    engine: EngineName,
    before: Applied | None = None,
    seeded: bool = False,
    release: bool = False,
) -> tuple[list[Command], Applied]:
    """Commands that bring a device from its applied state (None: unknown) to `plan`, and the state after them.

    Commands for what is already as it should be are left out. Engine nfqueue needs its process to listen
    before the last of these commands runs. `seeded`: netem takes a seed here (see
    gannet.netem.engines.netem.takes_seed). `release`: where a delay shrinks, a new netem takes the place of the old
    one and of the packets in it, which would hold up all later ones.
    """
    old = before.plan if before else None
    now = replace(_standing(plan, engine, before, release), seeded=seeded)
    commands = clear_commands(plan.device) if before is None else []
    ifb, ip, tc = ifb_name(plan.device), [], list[Line]()
    if old is None or old.segments != plan.segments:
        gro_bytes = FRAME_BYTES if plan.segments == 1 else _KERNEL_GRO_BYTES
        ip += [f"link set dev {plan.device} gso_max_segs {plan.segments} gro_max_size {gro_bytes}"]
    ip += _hardware(plan, old)
    if old is None:
        tc += [f"qdisc add dev {plan.device} handle ffff: ingress"]
    tc += changed_lines([fence(plan)], [fence(old)] if old else [], [])
    up: list[Line] = []
    if now.up:
        up = up_lines(now, before if before and before.up else None)
    tc += behind_splitter(plan.device, plan, old, up)
    if now.down:
        built = before is not None and before.down
        if not built:
            ip += [f"link add {ifb} type ifb", f"link set dev {ifb} addrgenmode none", f"link set dev {ifb} up"]
        tc += behind_splitter(ifb, plan, old if built else None, down_lines(now, before if built else None))
        if not built:  # last, so that packets find the tree complete
            match = f"protocol all prio 2 u32 match u32 0 0 action mirred egress redirect dev {ifb}"
            tc += [f"filter add dev {plan.device} parent ffff: {match}"]
    commands += [_batch("ip", ip)] if ip else []
    commands += [_tc_batch(tc)] if tc else []
    if old is None or old.paths != plan.paths:
        if engine == "nfqueue" and (old is None or queue_rules(old) != queue_rules(plan)):
            commands += _chain("mangle", plan.device, queue_rules(plan), hook=before is None)
        if now.tee and (old is None or tee_rules(old) != tee_rules(plan)):
            commands += _chain("filter", plan.device, tee_rules(plan), hook=before is None or not before.tee)
    return commands, now


def _standing(plan: InterfacePlan, engine: EngineName, before: Applied | None, release: bool) -> Applied:
    now = Applied(plan) if before is None else replace(before, plan=plan)
    groups = source_groups(plan)
    capped = plan.down_bps is not None or bool(plan.limits or groups)
    handles, turns, stepped = dict(now.handles), plan.down_queue == "per-source", dict(now.stepped)
    if engine == "nfqueue":
        numbers = source_numbers(plan, all_of_them=True) if turns and capped else {}
        handles = handles | dict.fromkeys(numbers, 0) if turns else {}
    else:
        numbers = source_numbers(plan, all_of_them=capped)
        for source, number in numbers.items():
            path = plan.paths[source]
            was = before.plan.paths.get(source) if before else None
            taken = {*handles.values(), *stepped.values()}
            begins, ends = path.wanders and source not in stepped, path.reorders and source in stepped
            if ends:
                del stepped[source]
            if source not in handles:
                handles[source] = number if number not in taken else _free_handle(taken | set(numbers.values()))
            elif (
                begins
                or ends
                # netem keeps its table: only another netem draws uniform jitter again.
                or (was is not None and has_table(was) and path.reorders and not has_table(path))
                or (was is not None and release and path.delay_ms < was.delay_ms)
            ):
                handles[source] = _free_handle(taken | set(numbers.values()))
            if begins:
                stepped[source] = _free_handle(taken | set(numbers.values()) | {handles[source]})
    return replace(
        now,
        up=now.up or plan.up_bps is not None or bool(plan.shared_out),
        down=now.down or plan.down_bps is not None or plan.down_held or capped or engine == "netem",
        tee=now.tee or bool(tee_rules(plan)),
        classified=turns,
        handles=handles,
        stepped=stepped,
        groups=groups or now.groups,
        up_groups=tuple(sorted({*now.up_groups, *(limit.number for limit in plan.shared_out)})),
    )


def _free_handle(taken: set[int]) -> int:
    return next(handle for handle in range(BUCKET - 1, 0, -1) if handle not in taken)


def _hardware(plan: InterfacePlan, old: InterfacePlan | None) -> list[str]:
    """Lines for `ip` that set this node's Ethernet address and those of its peers.

    Permanent neighbours need no ARP, which would cross a link unshaped, and do not count against the 1024 entries
    that all network namespaces of a kernel share (gc_thresh3 of arp(7)).
    """
    known = old.hardware if old else {}
    own = plan.hardware.get(plan.address)
    lines = []
    if own not in (None, known.get(plan.address)):  # which makes the device forget its neighbours
        known, lines = {}, [f"link set dev {plan.device} address {own}"]
    lines += [
        f"neigh replace {address} lladdr {hardware} dev {plan.device} nud permanent"
        for address, hardware in plan.hardware.items()
        if address != plan.address and known.get(address) != hardware
    ]
    return lines + [f"neigh del {address} dev {plan.device}" for address in known if address not in plan.hardware]


def clear_commands(device: str) -> list[Command]:
    """Commands that remove whatever either engine put on `device`; nothing to remove is no error."""
    chains = [chain_name(device), *(f"{chain_name(device)}-{leaf}" for leaf in LEAVES)]
    commands = []
    for table, hooks in HOOKS.items():
        unhook = [("iptables", "-w", "-t", table, "-D", hook, "-i", device, "-j", chains[0]) for hook in hooks]
        # Declared first, which makes or empties each, so that none can be missing.
        lines = [f"*{table}", *(f":{name} - [0:0]" for name in chains), *(f"-X {name}" for name in chains), "COMMIT"]
        restore = Command(("iptables-restore", "-w", "--noflush"), "\n".join(lines) + "\n", may_fail=True)
        commands += [*(Command(argv, may_fail=True) for argv in unhook), restore]
    # Gannet's own entries; other programs have no reason to make permanent ones on a node's shaped interface.
    neighbours = f"neigh flush dev {device} nud permanent"
    kernel = f"link set dev {device} gso_max_segs {_KERNEL_SEGMENTS} gro_max_size {_KERNEL_GRO_BYTES}"
    return [
        *commands,
        _batch("tc", [f"qdisc del dev {device} root"], may_fail=True),
        _batch("tc", [f"qdisc del dev {device} ingress"], may_fail=True),
        _batch("ip", [f"link del dev {ifb_name(device)}"], may_fail=True),
        _batch("ip", [neighbours], may_fail=True),
        _batch("ip", [kernel], may_fail=True),
    ]


def _batch(program: str, lines: Sequence[str], may_fail: bool = False) -> Command:
    """One process for many lines: a network of many sources would otherwise take seconds to set up."""
    return Command((program, "-batch", "-"), "".join(f"{line}\n" for line in lines), may_fail)


def _tc_batch(lines: Sequence[Line]) -> Command:
    changes = tuple(line for line in lines if not isinstance(line, str))
    command = _batch("tc", [str(line) for line in lines])
    return replace(command, changes=changes) if len(changes) == len(lines) else command


def _chain(table: str, device: str, rules: Mapping[str, str], hook: bool) -> list[Command]:
    """Swap the chain in one transaction; declaring a chain empties it first."""
    chain = chain_name(device)
    chains = [chain, *(f"{chain}-{leaf}" for leaf in LEAVES if len(rules) > FLAT_RULES)]
    lines = [f"*{table}", *(f":{name} - [0:0]" for name in chains)]
    lines += [*parent_rules(device, rules), *rules.values(), "COMMIT"]
    commands = [Command(("iptables-restore", "-w", "--noflush"), stdin="\n".join(lines) + "\n")]
    if hook:
        commands += [Command(tuple(f"iptables -w -t {table} {rule}".split())) for rule in hook_rules(table, device)]
    return commands
