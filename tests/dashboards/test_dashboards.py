"""The dashboards and rules as files: built from their source, fit for Grafana and Prometheus, naming what exists."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import check
from dashboards.__main__ import write
from gannet.metrics.registry import COUNTERS, GAUGES
from gannet.node.process.metrics import NodeMetrics
from gannet.node.training.meter import StepStats

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "compose" / "prometheus"
DASHBOARDS = check.load()
NAMES = sorted(DASHBOARDS)
TIMED_ANNOTATION = {"titleFormat", "textFormat", "useValueForTime", "step"}  # Grafana's, missing in the SDK's model


def declared() -> set[str]:
    """Every series name that nodes, controller and recording rules can have."""
    metrics = NodeMetrics("run", "arm", 0)
    metrics.begin({1}, {1}, dict)
    metrics.step(StepStats(1, 1.0, {"generator": 1.0}, 0.5, 0.25, 0.25, 1, 1, 1, (1,)))
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    names = {f.name + suffix for f in metrics.registry.collect() for suffix in suffixes[f.type]}
    rules = yaml.safe_load((PROMETHEUS / "rules" / "recording.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    return names | set(GAUGES) | {f"{name}_total" for name in COUNTERS} | recorded


def test_a_rebuild_changes_nothing(tmp_path: Path) -> None:
    made = {path.name: path.read_text() for path in write(tmp_path)}
    kept = {path.name: path.read_text() for path in check.FOLDER.glob("*.json")}
    assert made == kept, "stale: run `make dashboards`"


@pytest.mark.parametrize("name", NAMES)
def test_the_json_fits_grafanas_schema(name: str) -> None:
    """Through the models that Grafana's own schema generates, and back: what they do not know would be lost."""
    register_default_plugins()
    model = Dashboard.from_json(DASHBOARDS[name])
    again = json.loads(json.dumps(model, cls=JSONEncoder))
    for annotation in DASHBOARDS[name]["annotations"]["list"]:
        assert annotation.keys() >= TIMED_ANNOTATION
    kept = json.loads(json.dumps(DASHBOARDS[name]))
    for annotation in kept["annotations"]["list"]:
        for key in TIMED_ANNOTATION:
            del annotation[key]
    assert again == kept


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_their_places(name: str) -> None:
    everything = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids) and all(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, lines = (range(place[at], place[at] + place[size]) for at, size in ("xw", "yh"))
        for cell in product(columns, lines):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]
    height = 1 + max(y for _, y in taken)
    filled = [sum((x, y) in taken for x in range(24)) for y in range(height)]
    assert set(filled) == {24}, "a hole in the page"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows(name: str) -> None:
    titles = []
    for panel in check.panels(DASHBOARDS[name]):
        titles.append(panel["title"])
        assert len(panel["description"]) > 10 and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            named = panel["type"] in ("table", "nodeGraph", "trend")
            assert named or target["legendFormat"], panel["title"]
    assert len(set(titles)) == len(titles)


def test_every_dashboard_has_the_frame_around_it() -> None:
    uids = {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()}
    assert uids == {name: f"gannet-{name}" for name in ("training", "network", "compare", "trust")}
    for dashboard in DASHBOARDS.values():
        variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
        assert list(variables) == ["run", "arm", "node"]
        assert all(v["multi"] and v["includeAll"] for v in variables.values())
        assert dashboard["refresh"] == "5s" and dashboard["tags"] == ["gannet"]
        (link,) = dashboard["links"]
        assert link["type"] == "dashboards" and link["tags"] == ["gannet"]
        assert link["keepTime"] and link["includeVars"]
        (annotation,) = dashboard["annotations"]["list"]
        assert annotation["useValueForTime"] and annotation["expr"].endswith(" * 1000")


def test_queries_and_rules_name_only_metrics_that_are_declared() -> None:
    known = declared()
    asked = {q.where: check.metrics_in(q.expr) for q in check.questions(DASHBOARDS)}
    for file in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((PROMETHEUS / "rules" / file).read_text())["groups"]:
            asked |= {rule.get("record") or rule["alert"]: check.metrics_in(rule["expr"]) for rule in group["rules"]}
    assert {where: names - known for where, names in asked.items() if names - known} == {}
    without = [where for where, names in asked.items() if not names]
    assert without == ["trust: Alerts firing (A)", "GannetControllerDown", "GannetNodesGone"]


def test_every_metric_is_shown_or_watched_somewhere() -> None:
    rules = "".join(path.read_text() for path in (PROMETHEUS / "rules").iterdir())
    used = check.metrics_in(rules).union(*(check.metrics_in(q.expr) for q in check.questions(DASHBOARDS)))
    named_in_words = {"gannet_unknown_link_events_total", "gannet_run_nodes"}  # for whoever looks for a fault
    assert declared() - used - named_in_words == set()


def test_every_query_honours_the_variables() -> None:
    for question in check.questions(DASHBOARDS):
        if "variable" not in question.where and "Alerts firing" not in question.where:
            assert 'run=~"$run"' in question.expr and 'arm=~"$arm"' in question.expr, question.where


@pytest.mark.parametrize("file", ["prometheus.yml", "prometheus.swarm.yml"])
def test_prometheus_takes_its_configuration(file: str) -> None:
    said = subprocess.run(["promtool", "check", "config", str(PROMETHEUS / file)], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_swarms_configuration_differs_by_the_names_alone() -> None:
    one, other = (yaml.safe_load((PROMETHEUS / f"prometheus{kind}.yml").read_text()) for kind in ("", ".swarm"))
    text = json.dumps(one)
    for name in ("node", "controller"):
        text = text.replace(f'"names": ["{name}"]', f'"names": ["tasks.{name}"]')
    assert json.loads(text) == other
    assert "static_configs" not in text and text.count("dns_sd_configs") == 2


def test_rules_do_what_they_say() -> None:
    tests = sorted(str(path) for path in (PROMETHEUS / "tests").glob("*.yml"))
    said = subprocess.run(["promtool", "test", "rules", *tests], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_rule_is_tested_by_promtool() -> None:
    def names(file: str, key: str) -> set[str]:
        groups: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "rules" / file).read_text())["groups"]
        return {rule[key] for group in groups for rule in group["rules"]}

    cases = yaml.safe_load((PROMETHEUS / "tests" / "recording.yml").read_text())["tests"]
    asked = " ".join(test["expr"] for case in cases for test in case["promql_expr_test"])
    assert names("recording.yml", "record") == set(re.findall(r"\b\w+:gannet_\w+:\w+", asked))
    spoken, silent = set(), set()
    for case in yaml.safe_load((PROMETHEUS / "tests" / "alerts.yml").read_text())["tests"]:
        for test in case.get("alert_rule_test", []):
            (spoken if test["exp_alerts"] else silent).add(test["alertname"])
    assert names("alerts.yml", "alert") == spoken == silent


def test_grafana_is_provisioned_with_what_the_dashboards_name() -> None:
    folder = ROOT / "compose" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["uid"] == "prometheus" and source["type"] == "prometheus" and source["isDefault"]
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    (provider,) = yaml.safe_load((folder / "dashboards" / "gannet.yaml").read_text())["providers"]
    mounts = (ROOT / "compose" / "compose.yaml").read_text()
    assert f"source: ../dashboards, target: {provider['options']['path']}," in mounts
