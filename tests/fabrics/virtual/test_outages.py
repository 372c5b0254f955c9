"""Outages that keep what is sent, on the clock of the model: against the arithmetic of a single message."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest

from gannet.fabrics.job import mesh_plans
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.replay import replayed
from gannet.netem.links.schedule import unrolled
from gannet.netem.links.state import LinkState
from gannet.netem.links.trace import Outages, Trace, TracePoint


@pytest.mark.parametrize("outages", ["keep", "drop"])
@pytest.mark.parametrize("way", ["down_bps", "up_bps"])
def test_a_message_waits_for_the_end_of_an_outage_and_for_no_more(way: str, outages: Outages) -> None:
    """A second's worth of bits, half of which are through when two seconds of outage begin; 10 ms of delay."""
    rates = [(0.0, 1_000_000), (1.0, 0), (3.0, 1_000_000)]
    trace = Trace("x", "", tuple(TracePoint(at_s, **{way: rate}) for at_s, rate in rates), 20.0, outages=outages)
    base = LinkState(profile=LinkProfile(up_delay_ms=10, down_delay_ms=10))
    node = 1 if way == "down_bps" else 0
    links, moments = unrolled(base, [replayed(0.0, trace, 3, [node])])
    model: LinkModel[str] = LinkModel(
        mesh_plans(links, 3, 1), [(moment.at_s, mesh_plans(moment.links, 3, 1)) for moment in moments]
    )
    arrived = run(model, [0.0])  # what is due at once
    model.send(0.5, 0, 1, 125_000, "through the outage")
    model.send(0.5, 2, 0, 125_000, "elsewhere")
    arrived = run(model, [0.5])
    assert arrived["through the outage"] == pytest.approx(3.51, abs=1e-6)
    assert arrived["elsewhere"] == pytest.approx(0.51, abs=1e-6)  # no rate is limited there


def run(model: LinkModel[str], begins_s: Sequence[float]) -> dict[str, float]:
    """Advance to the end; returns when each message arrived."""
    arrived: dict[str, float] = {}
    now_s = begins_s[0]
    while (now_s := model.next_s(now_s)) < (inf if len(arrived) < 2 and begins_s[0] > 0 else 0.5):
        arrived |= {message: at_s for at_s, message in model.advance(now_s)}
    return arrived
