"""Real links that are cut for longer than gRPC keeps a silent connection: who waits for them continues after it.

Nodes that train on meanwhile: tests/fabrics/namespaces/test_islands.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gannet import gannet

pytestmark = pytest.mark.real("runs")

CUT_AT_S, CUT_FOR_S, END_S = 3, 25, 45  # gRPC's core gives an accepted connection up after 20 s without an answer


def test_training_continues_after_a_cut_that_breaks_every_connection(tmp_path: Path) -> None:
    ran = gannet(
        tmp_path,
        ["run"],
        nodes=2,
        algorithm={"name": "choco", "gamma": 0.5},
        pace_ms=50,
        stop={"seconds": END_S},
        links={
            "profile": {"rate": "10Mbit", "delay_ms": 10},
            "schedule": [{"at_s": CUT_AT_S, "partition": "0 : 1", "for_s": CUT_FOR_S}],
        },
    )
    assert ran.status == 0, ran.output
    times_s = [line["t_s"] for line in ran.steps() if line["node"] == 0]
    during = [t_s for t_s in times_s if CUT_AT_S + 2 < t_s < CUT_AT_S + CUT_FOR_S]
    after = [t_s for t_s in times_s if t_s > CUT_AT_S + CUT_FOR_S]
    assert not during and len(after) > 5  # nothing crossed the cut, and the run did not wait for a deadline after it
    summary = ran.summary()
    assert summary["missing_messages"] == 0 and not summary["refused"]  # what the cut broke off came in the end
