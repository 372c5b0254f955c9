"""What several senders get of one receiver's downlink, by the bytes that arrive (`down_queue` of a profile)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pytest

from gannet.netem.agent.client import AgentError
from gannet.netem.links.plan import InterfacePlan
from tests.netem.engines.conformance import FAN_IN
from tests.netem.link_lab import Lab, node_plan
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")

RATE_BPS, FRAME_BITS = 10_000_000, 8 * 1514
SECONDS = 4


def arrivals_s(lab: Lab, paces_bps: dict[int, int], seconds: float) -> dict[int, list[tuple[float, float]]]:
    """What node 0 receives of nodes that all send at once, each at its pace: (when it came, when it was sent), s.

    At the end each sends once more, alone, so that a receiver hears something of a sender that was starved; what was
    sent then does not count.
    """
    endpoints = {sender: lab.endpoint(0) for sender in paces_bps}
    outputs = {sender: lab.start_rate_tool(0, "catch", at, 2 * seconds) for sender, at in endpoints.items()}
    pouring = [
        lab.start_rate_program(sender, "pour", endpoints[sender], seconds, pace) for sender, pace in paces_bps.items()
    ]
    assert [sender.wait(240) for sender in pouring] == [0] * len(pouring)
    end_s = time.monotonic()
    for sender, endpoint in endpoints.items():
        assert lab.start_rate_program(sender, "pour", endpoint, 0.2, RATE_BPS // 20).wait(240) == 0
    rows = {sender: json.loads(output.readline()) for sender, output in outputs.items()}
    lab.clear_tools()
    return {sender: [(came, sent) for came, sent in found if sent < end_s] for sender, found in rows.items()}


def shares_bps(lab: Lab) -> list[float]:
    """Of three nodes that all send at the rate of its downlink without a pause, once its buffers are full."""
    found = arrivals_s(lab, dict.fromkeys((1, 2, 3), RATE_BPS), SECONDS + 2)
    begin_s = max(rows[0][1] for rows in found.values() if rows) + 1
    return [
        sum(begin_s <= came_s < begin_s + SECONDS for came_s, _ in rows) * FRAME_BITS / SECONDS
        for rows in found.values()
    ]


def plans(**downlink: object) -> list[InterfacePlan]:
    return [replace(node_plan(rank, None, RATE_BPS, delay_ms=5), **downlink) for rank in range(4)]


def whole(shares: Sequence[float]) -> bool:
    return sum(shares) == pytest.approx(RATE_BPS, rel=FAN_IN)


def test_constant_senders_take_turns(lab: Lab, engine: str) -> None:
    """None is starved because its packets always come when the others have just filled a shared buffer."""
    lab.apply(engine, plans())

    def even(shares: Sequence[float]) -> bool:
        return whole(shares) and all(share == pytest.approx(RATE_BPS / 3, rel=0.05) for share in shares)

    assert even(seen_right(lambda: shares_bps(lab), even, looks=3))


@pytest.mark.parametrize("down_queue", ["per-source", "shared"])
def test_a_light_sender_next_to_a_flood(lab: Lab, engine: str, down_queue: str) -> None:
    """With a queue of its own it neither waits nor loses; in a shared one it waits, as at a router's FIFO."""
    if engine == "netem" and down_queue == "shared":
        with pytest.raises(AgentError, match="engine netem cannot do this: down_queue: shared"):
            lab.apply(engine, plans(down_queue=down_queue))
        return
    other = "shared" if down_queue == "per-source" and engine == "nfqueue" else "per-source"
    for each in (other, down_queue):  # so that the one takes the place of the other while links are up
        lab.apply(engine, plans(down_queue=each))

    def light_ms() -> list[float]:
        found = arrivals_s(lab, {1: 2 * RATE_BPS, 2: RATE_BPS // 20}, SECONDS)
        return [1000 * (came_s - sent_s) for came_s, sent_s in found[2] if sent_s > found[1][0][0] + 1]

    sent = (SECONDS - 1) * RATE_BPS / 20 / FRAME_BITS

    def right(found: Sequence[float]) -> bool:
        if down_queue == "per-source":
            return len(found) > 0.9 * sent and median(found) < 15
        return not found or median(found) > 80  # how many are lost is an accident of timing

    assert right(seen_right(light_ms, right, looks=3))
