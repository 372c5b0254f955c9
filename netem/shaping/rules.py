"""The iptables rules of a plan: which NFQUEUE takes each source's packets, and which of them are duplicated. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from gannet.netem.links.plan import InterfacePlan
from gannet.netem.shaping.lines import BUCKET

# With more sources than this, there is a chain for each value of the last four bits of their addresses.
FLAT_RULES = 8
LEAVES = "0123456789abcdef"
# Delays: of all that arrives, before fragments are put together, so that each is lost by itself as on a wire.
# Duplicates: only of what is for this node, which TEE sends to itself.
HOOKS = {"mangle": ("PREROUTING",), "filter": ("INPUT",)}


def chain_name(device: str) -> str:
    """The iptables chain of `device` in table mangle (delays) and in table filter (duplicates)."""
    return f"gannet-{device}"


def source_numbers(plan: InterfacePlan, all_of_them: bool = False) -> dict[str, int]:
    """A number for every source that needs a delay line of its own, or for all: the lower 16 bits of its address.

    It serves as NFQUEUE number, tc handle and class, and never changes. Raises
    ValueError when two sources share one (addresses of one network no wider than /16 do not), or when
    it is reserved.
    """
    sources = [source for source, path in plan.paths.items() if all_of_them or not path.is_ideal]
    numbers = {source: source_number(source) for source in sources}
    networks = {int(IPv4Address(source)) >> 16 for source in sources}
    if len(networks) > 1 or any(not 0 < number < BUCKET for number in numbers.values()):
        where = "must lie in one /16 network, below x.y.255.240"
        raise ValueError(f"{plan.device}: sources {where}: {', '.join(sorted(numbers))}")
    return numbers


def source_number(source: str) -> int:
    """The lower 16 bits of an address."""
    return int(IPv4Address(source)) & 0xFFFF


def hook_rules(table: str, device: str) -> list[str]:
    """The rules that lead to a table's chain of `device`, as `iptables -S` prints them."""
    return [f"-A {hook} -i {device} -j {chain_name(device)}" for hook in HOOKS[table]]


def _rules(device: str, targets: Mapping[str, str]) -> dict[str, str]:
    """A rule for every source, as `iptables -S` prints it; many sources are first split by four bits."""
    chain, flat = chain_name(device), len(targets) <= FLAT_RULES
    return {
        source: f"-A {chain if flat else f'{chain}-{_leaf(source)}'} -s {source}/32 {target}"
        for source, target in targets.items()
    }


def _leaf(source: str) -> str:
    return LEAVES[int(IPv4Address(source)) & 0xF]


def queue_rules(plan: InterfacePlan) -> dict[str, str]:
    """The iptables rule that hands each source's packets to its NFQUEUE."""
    numbers = source_numbers(plan)
    return _rules(plan.device, {source: f"-j NFQUEUE --queue-num {number}" for source, number in numbers.items()})


def tee_rules(plan: InterfacePlan) -> dict[str, str]:
    """The iptables rule that duplicates some of each source's packets, at random."""
    shares = {source: path.duplicate_percent / 100 for source, path in plan.paths.items() if path.duplicate_percent}
    # To this node's own address: the copy arrives over the loopback device, right behind its original.
    target = f"-m statistic --mode random --probability {{:.9f}} -j TEE --gateway {plan.address}"
    return _rules(plan.device, {source: target.format(share) for source, share in shares.items()})


def parent_rules(device: str, rules: Mapping[str, str]) -> list[str]:
    """The rules that lead to those of the sources, as `iptables -S` prints them."""
    chain = chain_name(device)
    if len(rules) <= FLAT_RULES:
        return []
    # A mask with a hole in it: the network, and the last four bits.
    found = {_leaf(source): int(IPv4Address(source)) & 0xFFFF000F for source in rules}
    return [f"-A {chain} -s {IPv4Address(address)}/255.255.0.15 -g {chain}-{leaf}" for leaf, address in found.items()]
