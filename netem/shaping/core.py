"""The tc lines of shared links in the core, where the links of all nodes meet on a bridge. Pure.

    PORT ingress ── BPF: what is for these addresses ── redirect ── IFB root ── tbf ── htb of one class ── buffer

An IFB hands back what leaves it to the port that it came from, so that the bridge sees all of it, only later; and all
ports of a shared link redirect to one IFB, so that all of its packets wait in one queue, in the order in which they
came. What the senders' uplinks do is done before, and all that the receivers' engines do, after.

As in gannet.netem.shaping.commands, changes are made in place, and what was once built stays: the packets of a link
that the network has no more still pass its IFB, which then limits nothing, so that none overtakes those that wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gannet.netem.links.pairs.core import CoreLink
from gannet.netem.shaping.commands import Command
from gannet.netem.shaping.lines import BUCKET, Line, Splitter
from gannet.netem.shaping.programs import redirect_targets
from gannet.netem.shaping.tc import bucket, buffer, new_bucket

_IFB = re.compile(r"core\d+")


@dataclass(frozen=True)
class CoreState:
    """What is built in the core: links by number, of which those that are wanted no more have no rate, and the ports
    that have a place for filters.
    """

    links: Mapping[int, CoreLink] = field(default_factory=dict)
    ports: frozenset[str] = frozenset()


def core_ifb(number: int) -> str:
    """The IFB of a shared link in the core."""
    return f"core{number}"


def core_commands(wanted: Sequence[CoreLink], before: CoreState) -> tuple[list[Command], CoreState]:
    """Commands that lead from what is built to these links, and what is built then."""
    now = {link.number: link for link in wanted}
    taken = {(port, address) for link in wanted for port, found in link.targets.items() for address in found}
    for number, past in before.links.items():
        if number not in now:
            left = {port: tuple(a for a in found if (port, a) not in taken) for port, found in past.targets.items()}
            now[number] = replace(past, rate_bps=None, targets={port: found for port, found in left.items() if found})
    ports = before.ports.union(*(link.targets for link in now.values()))
    ip: list[str] = []
    tc: list[Line] = [f"qdisc add dev {port} handle ffff: ingress" for port in sorted(ports - before.ports)]
    begins: list[Line] = []
    ends: list[Line] = []
    for number, link in sorted(now.items()):
        old, ifb = before.links.get(number), core_ifb(number)
        if old is None:
            ip += [f"link add {ifb} type ifb", f"link set dev {ifb} addrgenmode none", f"link set dev {ifb} up"]
            tc += [Splitter(ifb, link.segments), new_bucket(ifb)]
        built = _limits(old) if old else [Splitter(ifb, link.segments)]
        tc += [line for line in _limits(link) if line not in built]
        was = old.targets if old else {}
        ends += [_no_filter(port, number) for port in was if port not in link.targets]
        begins += [
            redirect_targets(port, number + 1, found, ifb)
            for port, found in link.targets.items()
            if was.get(port) != found
        ]
    commands = [_batch("ip", ip)] if ip else []
    # Filters end last: a pair that another link takes over must not pass none of the two.
    if lines := [str(line) for line in (*tc, *begins, *ends)]:
        commands.append(_batch("tc", lines))
    return commands, CoreState(now, ports)


def clear_core_commands(devices: Iterable[str], ports: Iterable[str]) -> list[Command]:
    """Commands that remove the IFBs among these devices, and these ports' filters; nothing there is no error."""
    commands = [_batch("tc", [f"qdisc del dev {port} ingress"], may_fail=True) for port in sorted(ports)]
    gone = [f"link del dev {device}" for device in sorted(devices) if _IFB.fullmatch(device)]
    return [*commands, *([_batch("ip", gone)] if gone else [])]


def _limits(link: CoreLink) -> list[Line]:
    ifb, size = core_ifb(link.number), (link.buffer_bytes, link.buffer_packets)
    return [
        Splitter(ifb, link.segments),
        bucket(ifb, link.rate_bps),
        buffer(ifb, (BUCKET, 1), link.queue, link.rate_bps, size),
    ]


def _no_filter(port: str, number: int) -> str:
    return f"filter del dev {port} parent ffff: protocol ip prio {number + 1} handle 1 bpf"


def _batch(program: str, lines: Sequence[str], may_fail: bool = False) -> Command:
    return Command((program, "-batch", "-"), "".join(f"{line}\n" for line in lines), may_fail)
