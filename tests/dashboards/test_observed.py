"""A real Prometheus over a real run: every panel, variable, annotation and rule has data, and it is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

import pytest

from gannet.metrics.registry import COUNTERS, GAUGES
from tests.dashboards.observe import FAST, ROOT, SLOW

pytestmark = pytest.mark.real("runs")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What observe.py saw."""
    folder = tmp_path_factory.mktemp("observed")
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    argv = [sys.executable, "-m", "tests.dashboards.observe", str(folder)]
    ran = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return result


def test_no_panel_variable_or_annotation_is_empty(found: dict[str, Any]) -> None:
    assert found["finished"]
    assert found["empty"] == [] and found["asked"] > 90


def test_every_rule_is_healthy_and_every_recorded_series_is_there(found: dict[str, Any]) -> None:
    assert found["unhealthy"] == []
    assert all(found["recorded"].values()), found["recorded"]
    assert len(found["alerts"]) >= 10


def test_trouble_is_told(found: dict[str, Any]) -> None:
    """The node that was killed and the stranger's messages; what did not happen is not claimed."""
    assert {"GannetNodeLost", "GannetMessagesRefused"} <= set(found["fired"])
    assert not {"GannetNotFinite", "GannetRunFailed", "GannetAgentLost", "GannetControllerDown"} & set(found["fired"])
    assert found["refused"] == [5.0]


def test_every_declared_metric_was_scraped(found: dict[str, Any]) -> None:
    did_not_happen = {"gannet_run_failed_info", "gannet_unknown_link_events_total"}
    wanted = (set(GAUGES) | {f"{name}_total" for name in COUNTERS}) - did_not_happen
    assert wanted <= set(found["metrics"])
    assert not did_not_happen & set(found["metrics"])


def test_nodes_and_controller_speak_of_the_same_runs(found: dict[str, Any]) -> None:
    assert found["runs_of_nodes"] == found["runs_of_controller"] and len(found["runs_of_nodes"]) == 2


def test_a_change_of_links_is_seen_as_configured_and_as_observed(found: dict[str, Any]) -> None:
    """An echo takes both ways' delays, and what queues there are; never less."""
    (changed_s,) = found["changed_s"]
    assert found["start_s"] < changed_s < found["end_s"]

    def split(points: list[list[Any]]) -> tuple[list[float], list[float]]:
        """Before the change began, and once it has been scraped and recorded."""
        before = [float(value) for t_s, value in points if t_s < changed_s - 1.5]
        after = [float(value) for t_s, value in points if t_s > changed_s + 6.0]
        return before, after

    fast_s, slow_s = (2 * profile["delay_ms"] / 1000 for profile in (FAST, SLOW))
    before, after = split(found["configured_rtt_s"])
    assert before == pytest.approx([fast_s] * len(before)) and after == pytest.approx([slow_s] * len(after))
    assert before and after
    before, after = split(found["rtt_s"])
    assert min(after) >= 0.97 * slow_s
    assert before and min(before) >= 0.97 * fast_s and median(before) < median(after)
