"""The BPF programs of a plan, as tc takes them: which class a packet belongs to, and what may not pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from gannet.netem.links.plan import InterfacePlan
from gannet.netem.shaping.lines import CLASSIFIER, OTHERS


def classify(ifb: str, sources: Sequence[str]) -> str:
    """One BPF program, for any number of sources, that takes the lower half of a source's address as its class.

    Addresses of other networks match nothing, and those without a class of their own go to the class for all others.
    """
    network = int(IPv4Address(sources[0])) & 0xFFFF0000
    source = 0xFFF00000 + 12  # from the network header (SKF_NET_OFF): IPv4's source address
    program = [
        (0x20, 0, 0, source),  # A = source address
        (0x07, 0, 0, 0),  # X = A
        (0x54, 0, 0, 0xFFFF0000),  # A &= network mask
        (0x15, 0, 4, network),  # another network: return 0
        (0x87, 0, 0, 0),  # A = X
        (0x54, 0, 0, 0xFFFF),
        (0x44, 0, 0, CLASSIFIER << 16),
        (0x16, 0, 0, 0),  # return A, the class
        (0x06, 0, 0, 0),
    ]
    where = f"dev {ifb} parent {CLASSIFIER:x}: protocol ip prio 1 handle 1"
    return f"filter replace {where} bpf {_bytecode(program)} flowid {CLASSIFIER:x}:{OTHERS:x}"


def classify_targets(device: str, targets: Mapping[int, Sequence[str]]) -> str:
    """One BPF program that gives what is for these addresses the class above them; all else goes to the default."""
    program = [(0x20, 0, 0, 0xFFF00000 + 16)]  # IPv4's destination address
    for number, addresses in targets.items():
        for first, last in _ranges(addresses):
            program += [(0x35, 0, 2, first), (0x25, 1, 0, last), (0x06, 0, 0, CLASSIFIER << 16 | number)]
    program.append((0x06, 0, 0, 0))
    where = f"dev {device} parent {CLASSIFIER:x}: protocol ip prio 1 handle 1"
    return f"filter replace {where} bpf {_bytecode(program)} flowid {CLASSIFIER:x}:{OTHERS:x}"


def redirect_targets(port: str, priority: int, addresses: Sequence[str], to: str) -> str:
    """One BPF program that sends what arrives at a port and is for these addresses through the device `to`."""
    program = [(0x20, 0, 0, 0xFFF00000 + 16)]  # IPv4's destination address
    for first, last in _ranges(addresses):
        program += [(0x35, 0, 2, first), (0x25, 1, 0, last), (0x06, 0, 0, 0xFFFFFFFF)]
    program.append((0x06, 0, 0, 0))
    where = f"dev {port} parent ffff: protocol ip prio {priority} handle 1"
    return f"filter replace {where} bpf {_bytecode(program)} action mirred egress redirect dev {to}"


def fence(plan: InterfacePlan) -> str:
    """One BPF program that drops whatever arrives and belongs to no path of the plan.

    IPv4 from the plan's sources goes on to the next filter. A plan without Ethernet addresses does not know all
    nodes: then ARP and IPv4 from other sources go on as well. Else the latter are counted as dropped (see
    gannet.netem.engines.base.strangers), while other protocols, VLANs and frames for other nodes disappear without a
    count.
    """
    protocol, packet_type, vlan_present, source = (0xFFFFF000, 0xFFFFF000 + 4, 0xFFFFF000 + 48, 0xFFF00000 + 12)
    next_filter, drop, drop_uncounted = 0xFFFFFFFF, 2, 4  # TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_STOLEN
    program = [
        (0x20, 0, 0, packet_type),
        (0x15, 0, 1, 3),  # PACKET_OTHERHOST: flooded by a bridge
        (0x06, 0, 0, drop_uncounted),
        (0x20, 0, 0, vlan_present),
        (0x15, 1, 0, 0),
        (0x06, 0, 0, drop_uncounted),
        (0x20, 0, 0, protocol),
        (0x15, 0, 1, 0x0806),  # ARP
        (0x06, 0, 0, drop_uncounted if plan.hardware else next_filter),
        (0x15, 1, 0, 0x0800),
        (0x06, 0, 0, drop_uncounted),
        (0x20, 0, 0, source),
    ]
    for first, last in _ranges(plan.paths):
        program += [(0x35, 0, 2, first), (0x25, 1, 0, last), (0x06, 0, 0, next_filter)]
    program.append((0x06, 0, 0, drop if plan.hardware else next_filter))
    return f"filter replace dev {plan.device} parent ffff: protocol all prio 1 handle 1 bpf da {_bytecode(program)}"


def _ranges(addresses: Iterable[str]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive IPv4 addresses."""
    found: list[tuple[int, int]] = []
    for address in sorted(int(IPv4Address(text)) for text in addresses):
        if found and address == found[-1][1] + 1:
            found[-1] = found[-1][0], address
        else:
            found.append((address, address))
    return found


def _bytecode(program: Sequence[tuple[int, int, int, int]]) -> str:
    """A classic BPF program as tc takes it: operation, jumps if true and false, operand."""
    code = ",".join([str(len(program)), *(" ".join(map(str, instruction)) for instruction in program)])
    return f"bytecode '{code},'"
