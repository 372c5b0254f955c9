"""What a certificate keeps, also one that an earlier version wrote."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from gannet.netem.links.plan import BurstPlan, InterfacePlan, PathPlan
from gannet.netem.measure.certificate import Certificate, EdgeResult, FanResult, expected_edge
from gannet.netem.measure.tolerances import TOLERANCES, Tolerances

OLD = {
    "trusted": False,
    "reasons": ["link 0 → 1: rate 8 Mbit/s, not 10 Mbit/s (± 5%)"],
    "model": False,
    "edges": [
        {
            "src": 0, "dst": 1, "expected_rate_bps": 1e7, "measured_rate_bps": 8e6, "expected_delay_ms": 25.0,
            "expected_jitter_ms": 0.0, "delay_p50_ms": 25.1, "delay_p95_ms": 25.3, "rtt_p50_ms": 50.2,
            "expected_loss_percent": 0.0, "loss_percent": 0.0, "ok": False,
            "reasons": ["rate 8 Mbit/s, not 10 Mbit/s (± 5%)"], "from_round_trip": False,
        }
    ],
}  # fmt: skip


def edge(**fields: Any) -> EdgeResult:
    known = {name: value for name, value in OLD["edges"][0].items() if name != "reasons"}  # type: ignore[index]
    return EdgeResult(**{**known, "ok": True, **fields})


def through_json(certificate: Certificate) -> Certificate:
    return Certificate.from_json(json.loads(json.dumps(certificate.to_json(), allow_nan=False)))


def test_a_certificate_is_trusted_until_there_is_a_reason() -> None:
    certificate = Certificate()
    certificate.add_edge(edge())
    certificate.add_fan(FanResult(3, "in", (0, 1), 1e7, 9.9e6, (9.8e6, 10e6)))
    assert certificate.trusted
    certificate.add_reason("node 1: late")
    certificate.add_reason("node 1: late")
    assert not certificate.trusted
    assert certificate.reasons == ["node 1: late"]
    certificate.add_edge(edge(ok=False, reasons=("one-way delay 35.00 ms, not 25 ms (± 1 ms)",)))
    certificate.add_fan(FanResult(0, "out", (1, 2, 3), 1e7, 2e7, ok=False, reasons=("rate 20 Mbit/s",)))
    assert certificate.reasons[1].startswith("link 0 → 1: one-way delay 35.00 ms")
    assert certificate.reasons[2] == "3 peers at once out of node 0: rate 20 Mbit/s"


def test_it_comes_back_from_json_as_it_was() -> None:
    certificate = Certificate([edge(delay_interval_ms=(24.9, 25.3), loss_samples=9)], ["late"])
    certificate.add_fan(FanResult(3, "in", (0, 1), 1e7, 9.9e6, (9.8e6, 10e6)))
    certificate.tolerances, certificate.seconds = replace(TOLERANCES, rate_share=0.02), 4.5
    assert through_json(certificate) == certificate


def test_what_earlier_versions_wrote_still_loads() -> None:
    certificate = Certificate.from_json(OLD)
    assert certificate.edges[0].measured_rate_bps == 8e6 and not certificate.trusted
    assert certificate.fans == [] and certificate.edges[0].rate_interval_bps is None
    # And what a later version may add to the table is no obstacle.
    assert Certificate.from_json({**OLD, "tolerances": {"delay_ms": 2.0, "of_later": 1}}).tolerances.delay_ms == 2.0


def test_a_link_is_expected_as_the_plans_have_it() -> None:
    path = PathPlan(25, jitter_ms=2, loss_percent=1, bursts=BurstPlan(1, 9), reorder_percent=3, duplicate_percent=4)
    sender = InterfacePlan("mesh0", "10.0.0.1", 10**6, None, 15140, 15140)
    receiver = InterfacePlan("mesh0", "10.0.0.2", None, 10**7, 15140, 125_000, {"10.0.0.1": path})
    found = expected_edge([sender, receiver], 0, 1)
    assert found.expected_rate_bps == 10**6 and found.expected_delay_ms == 25
    assert round(found.expected_loss_percent, 6) == 10.9  # 1 − 0.99 · 0.9
    assert (found.expected_reorder_percent, found.expected_duplicate_percent) == (3, 4)


def test_the_table_of_tolerances_names_every_one() -> None:
    """Whoever adds a tolerance must say it where people read it: another value shows in the rows."""
    for name, value in asdict(TOLERANCES).items():
        changed = replace(TOLERANCES, **{name: value * 1.5 if value < 0.6 or value > 1 else value - 0.11})
        assert changed.rows() != Tolerances().rows(), name
