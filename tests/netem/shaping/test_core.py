"""Shared links in the core: what follows from plans, and the commands that lead from one state to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gannet.netem.links.pairs.core import CoreLink, core_links
from gannet.netem.links.pairs.shared import SharedLink
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.shaping.core import CoreState, core_commands
from gannet.netem.shaping.programs import redirect_targets

ADDRESSES = [f"10.77.0.{2 + rank}" for rank in range(4)]
PORTS = [f"port{rank}" for rank in range(4)]
ACCEPT = 0xFFFFFFFF
LINK = CoreLink(0, 20_000_000, 50_000, None, "fifo", 1, {"port0": (ADDRESSES[2],), "port1": (ADDRESSES[3],)})


def links_of(*shared: SharedLink, profile: LinkProfile | None = None) -> tuple[CoreLink, ...]:
    state = LinkState(profile=profile or LinkProfile(down_bps=100_000_000, up_bps=100_000_000), shared=shared)
    return core_links(state.plans(ADDRESSES, ["mesh0"] * 4, 1), PORTS)


def lines(wanted: Sequence[CoreLink], before: CoreState) -> tuple[list[str], CoreState]:
    commands, after = core_commands(wanted, before)
    return [line for command in commands for line in (command.stdin or "").splitlines()], after


def test_core_links_come_from_the_plans_of_all_nodes() -> None:
    crossed = SharedLink(rate_bps=20_000_000, pairs=((0, 2), (1, 3), (1, 2)))
    (link,) = links_of(SharedLink(rate_bps=9_000_000, pairs=((0, 2), (1, 2))), crossed)
    assert link.targets == {"port0": (ADDRESSES[2],), "port1": (ADDRESSES[2], ADDRESSES[3])}
    # 100 ms at the link's own rate.
    assert (link.number, link.rate_bps, link.buffer_bytes, link.queue) == (1, 20_000_000, 250_000, "fifo")
    assert CoreLink.from_json(json.loads(json.dumps(asdict(link)))) == link


def test_buffer_and_queue_are_those_of_the_receiver_with_the_largest() -> None:
    crossed = SharedLink(rate_bps=20_000_000, pairs=((0, 2), (1, 3)))
    plain, large = (LinkProfile(down_bps=50_000_000, up_bps=50_000_000, buffer_ms=ms) for ms in (20, 60))
    state = LinkState(profile=plain, nodes={3: replace_queue(large)}, shared=(crossed,))
    (link,) = core_links(state.plans(ADDRESSES, ["mesh0"] * 4, 1), PORTS)
    assert (link.buffer_bytes, link.queue) == (150_000, "codel")
    (counted,) = links_of(crossed, profile=LinkProfile(down_bps=50_000_000, up_bps=50_000_000, buffer_packets=70))
    assert counted.buffer_packets == 70


def replace_queue(profile: LinkProfile) -> LinkProfile:
    return profile.model_copy(update={"queue": "codel"})


def test_a_link_comes_changes_and_goes_in_place() -> None:
    built, state = lines([LINK], CoreState())
    assert built[:3] == ["link add core0 type ifb", "link set dev core0 addrgenmode none", "link set dev core0 up"]
    text = "\n".join(built)
    assert "rate 20000000bit" in text and "bfifo limit 50000" in text
    assert text.count("ingress") == 2 and text.count("redirect dev core0") == 2
    # Nothing leads to the IFB before all of it stands.
    assert all("redirect" not in line for line in built[:-2])
    assert lines([LINK], state) == ([], state)
    (rate,), faster = lines([replace(LINK, rate_bps=40_000_000)], state)
    assert rate.startswith("class replace dev core0") and "rate 40000000bit" in rate
    gone, after = lines([], faster)
    assert len(gone) == 2 and "rate 1000000000000bit" in gone[0] and "bfifo" in gone[1]
    back, again = lines([LINK], after)
    assert again == state and len(back) == 2 and not any("filter" in line for line in back)


def test_a_pair_moves_to_another_link_without_passing_none() -> None:
    other = CoreLink(1, 5_000_000, 50_000, None, "fifo", 1, {"port0": (ADDRESSES[2],), "port2": (ADDRESSES[1],)})
    _, state = lines([LINK], CoreState())
    moved, after = lines([other], state)
    assert after.links[0].rate_bps is None and after.links[0].targets == {"port1": (ADDRESSES[3],)}
    filters = [line for line in moved if line.startswith("filter")]
    assert [line.split()[1] for line in filters] == ["replace", "replace", "del"]
    assert "dev port0" in filters[-1] and "prio 1 " in filters[-1]


@pytest.mark.parametrize("queue", ["codel", "fq_codel", "sfq"])
def test_other_queues_take_packets(queue: str) -> None:
    built, _ = lines([replace(LINK, queue=queue)], CoreState())
    assert any(f"parent fff0:1 {queue} limit" in line for line in built)


def verdict(program: str, target: int) -> int:
    """What a classic BPF program of loads, comparisons and returns says of a packet for this address."""
    code = [tuple(map(int, each.split())) for each in program.split(",")[1:] if each]
    at = accumulator = 0
    while True:
        operation, true, false, operand = code[at]
        at += 1
        if operation == 0x20:
            assert operand == 0xFFF00000 + 16
            accumulator = target
        elif operation == 0x06:
            return operand
        else:
            assert operation in (0x35, 0x25)
            at += true if (accumulator >= operand if operation == 0x35 else accumulator > operand) else false


@given(st.sets(st.integers(0, 40), min_size=1))
def test_what_is_for_these_addresses_is_redirected_and_nothing_else(chosen: set[int]) -> None:
    first = int(IPv4Address("10.77.0.2"))
    line = redirect_targets("port0", 1, [str(IPv4Address(first + n)) for n in sorted(chosen)], "core0")
    program = line.split("'")[1]
    assert {n for n in range(-1, 43) if verdict(program, first + n) == ACCEPT} == chosen
