"""Packets in flight while a delay shrinks: an operator releases them, and of a schedule is told whom they hold up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median

import pytest

from gannet.fabrics.job import LinkChange
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from tests.support.live import SWIFT, LiveLab, lines, live_lab, live_links, wait_for_line

pytestmark = pytest.mark.real("links")

FAR = LinkProfile(name="far", up_delay_ms=60_000, down_delay_ms=60_000)


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveLab]:
    with live_lab() as lab:
        yield lab


def test_a_change_by_hand_does_not_wait_for_what_is_in_flight(shared: LiveLab) -> None:
    with live_links(shared, FAR) as live:
        endpoint = shared.endpoint(1)
        output = shared.start_tool(1, "sink", endpoint, 40, 4)
        shared.tool(0, "send", endpoint, 20, 1)
        live.change("apply swift", lambda state: state.apply(SWIFT))
        shared.tool(0, "send", endpoint, 20, 1)
        received = json.loads(output.readline())
    assert [number for number, _ in received][-20:] == list(range(20))
    assert 4.9 < median(ms for _, ms in received[-20:]) < 30_000
    assert all("pauses_ms" not in line for line in lines(live, "links"))


def test_a_schedule_says_for_how_long_later_packets_wait(shared: LiveLab) -> None:
    changes = [LinkChange(0.5, LinkState(profile=SWIFT)), LinkChange(1.0, LinkState(profile=FAR))]
    with live_links(shared, FAR, changes) as live:
        told = [wait_for_line(live, event="links", by="schedule") for _ in changes]
    assert [line.get("pauses_ms") for line in told] == [60_000 - 5, None]


def test_no_node_asks_for_its_peers_addresses(shared: LiveLab) -> None:
    """They are permanent neighbours: the kernel's table of all others, which is full with 33 nodes, stays empty."""
    with live_links(shared):
        for rank in range(4):
            shown = json.loads(shared.sandbox.run("ip -j neigh show dev mesh0", f"node{rank}"))
            assert len(shown) == 3 and all(entry["state"] == ["PERMANENT"] for entry in shown), shown
