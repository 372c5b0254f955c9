"""No packet of any kind crosses a link unshaped: each is delayed and lost as planned, or stopped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gannet.netem.links.plan import InterfacePlan
from gannet.netem.sandbox import Sandbox
from tests.netem import kinds_tool
from tests.netem.link_lab import ADDRESSES, Lab, node_plan
from tests.support.patience import wait_until

pytestmark = pytest.mark.real("links")

TOOL = str(Path(kinds_tool.__file__))
COUNT = 5
DELAY_MS = 100.0


@pytest.fixture
def pair() -> Iterator[Lab]:
    """Two nodes, which also have IPv6 addresses."""
    with Sandbox() as sandbox:
        lab = Lab(sandbox, ADDRESSES[:2])

        def settled() -> bool:
            shown = [json.loads(sandbox.run("ip -j -6 address show mesh0", node)) for node in ("node0", "node1")]
            return all(entry[0]["addr_info"] and not entry[0]["addr_info"][0].get("tentative") for entry in shown)

        wait_until("both nodes have IPv6 addresses", settled)
        yield lab
        lab.clear()
        lab.close()


def hardware(lab: Lab) -> dict[str, str]:
    found = [agent.request("interface", device="mesh0")["hardware"] for agent in lab.agents]
    return dict(zip(lab.addresses, found, strict=True))


def arrived(lab: Lab) -> dict[str, list[float]]:
    """One-way delays (ms) of what of each kind has come from node 0 to node 1."""
    output = lab.start(1, sys.executable, TOOL, "listen", ADDRESSES[1])
    lab.sandbox.run([sys.executable, TOOL, "send", *lab.addresses, hardware(lab)[ADDRESSES[1]], str(COUNT)], "node0")
    time.sleep(5 * DELAY_MS / 1000)  # for TCP, too, to get through
    lab.sandbox.run([sys.executable, TOOL, "stop"], "node1")
    found: dict[str, list[float]] = json.loads(output.readline())
    lab.clear_tools()
    return found


def planned(lab: Lab, **path: Any) -> list[InterfacePlan]:
    return [replace(node_plan(rank, addresses=ADDRESSES[:2], **path), hardware=hardware(lab)) for rank in range(2)]


def test_every_kind_of_packet_is_shaped_or_stopped(pair: Lab, engine: str) -> None:
    free = arrived(pair)
    # Without links all kinds arrive: or else that they do not arrive with links would show nothing.
    assert free.keys() == kinds_tool.IPV4 | kinds_tool.OTHERS
    pair.apply(engine, planned(pair, delay_ms=DELAY_MS))
    shaped = arrived(pair)
    assert shaped.keys() == kinds_tool.IPV4
    for kind, delays_ms in shaped.items():
        assert len(delays_ms) == COUNT and min(delays_ms) >= DELAY_MS - 0.1, (kind, delays_ms)
    assert pair.agents[1].request("counters")["strangers"] == COUNT
    pair.apply(engine, planned(pair, loss_percent=100.0))
    assert arrived(pair) == {}
    # Where nothing is to be shaped, what is no node's is stopped all the same.
    pair.apply(engine, planned(pair))
    assert arrived(pair).keys() == kinds_tool.IPV4
