"""A link that is dead from the start, on real links: the run ends at once, and says which it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gannet import gannet

pytestmark = pytest.mark.real("runs")


@pytest.mark.parametrize("dead", [["0>1"], ["0>1", "1>0"]])
def test_the_run_names_the_link_before_any_node_is_started(tmp_path: Path, dead: list[str]) -> None:
    profile = {"rate": "50Mbit", "delay_ms": 5}
    links = {"profile": profile, "edges": {edge: {"loss_percent": 100} for edge in dead}}
    ran = gannet(tmp_path, ["run"], links=links)
    said = " ".join(ran.output.split())
    assert ran.status != 0 and "starting node" not in said
    named, verb = ("0 → 1, 1 → 0", "lose") if len(dead) == 2 else ("0 → 1", "loses")
    assert f"link {named} {verb} every packet when training begins, as configured" in said
    assert "with at_s: 0 or later" in said
