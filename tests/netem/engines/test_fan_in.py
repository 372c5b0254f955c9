"""What several senders get of one receiver's downlink, by the bytes that arrive (`down_queue` of a profile)."""

from __future__ import annotations

import json
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


def shares_bps(lab: Lab) -> list[float]:
    """What node 0 receives of each of three nodes that all send at the rate of its downlink, without a pause."""
    endpoints = {sender: lab.endpoint(0) for sender in (1, 2, 3)}
    outputs = [lab.start_rate_tool(0, "catch", endpoint, SECONDS) for endpoint in endpoints.values()]
    for sender, endpoint in endpoints.items():
        lab.start_rate_program(sender, "pour", endpoint, SECONDS + 2, RATE_BPS)
    arrived = [[at_s for at_s, _ in json.loads(output.readline())] for output in outputs]
    lab.clear_tools()
    begin_s = max(times[0] for times in arrived if times) + 1  # when the buffers are full
    return [sum(begin_s <= at_s < begin_s + SECONDS for at_s in times) * FRAME_BITS / SECONDS for times in arrived]


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
    """With a queue of its own it neither waits nor loses; in a shared one it does both, as at a router's FIFO."""
    if engine == "netem" and down_queue == "shared":
        with pytest.raises(AgentError, match="engine netem cannot do this: down_queue: shared"):
            lab.apply(engine, plans(down_queue=down_queue))
        return
    other = "shared" if down_queue == "per-source" and engine == "nfqueue" else "per-source"
    for each in (other, down_queue):  # so that the one takes the place of the other while links are up
        lab.apply(engine, plans(down_queue=each))

    def light_ms() -> list[float]:
        flooded, light = lab.endpoint(0), lab.endpoint(0)
        lab.start_rate_tool(0, "catch", flooded, SECONDS)
        output = lab.start_rate_tool(0, "catch", light, 1)
        flood = lab.start_rate_program(1, "pour", flooded, 3 * SECONDS, 2 * RATE_BPS)
        lab.tool(2, "ask", _echo(lab), 1, 1, 60)  # the flood has begun: its datagrams and ours share a link
        assert lab.start_rate_program(2, "pour", light, SECONDS, RATE_BPS // 20).wait(60) == 0
        assert flood.poll() is None
        rows = json.loads(output.readline())
        lab.clear_tools()
        return [1000 * (came_s - sent_s) for came_s, sent_s in rows]

    sent = round(SECONDS * RATE_BPS / 20 / FRAME_BITS)

    def right(found: Sequence[float]) -> bool:
        if down_queue == "per-source":
            return len(found) >= 0.97 * sent and median(found) < 15
        return len(found) < 0.9 * sent and 90 < median(found) < 120

    found = seen_right(light_ms, right, looks=3)
    print(down_queue, len(found), "of", sent, "median ms", median(found))
    assert right(found)


def _echo(lab: Lab) -> str:
    endpoint = lab.endpoint(0)
    lab.start_tool(0, "echo", endpoint)
    return endpoint
