"""`gannet compare` on the compose fabric: it starts a cluster, collects, and takes down all that it started."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.docker import Engine
from tests.support.gannet import gannet
from tests.support.images import BuiltImage

pytestmark = [pytest.mark.real("containers"), pytest.mark.timeout(1200)]


@pytest.fixture
def folder(engine: Engine, gannet_image: BuiltImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with the engine and the image in the environment."""
    for name, value in {**engine.environment, "GANNET_IMAGE": gannet_image.tag}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def everything(engine: Engine) -> dict[str, list[str]]:
    """Names of all that the engine has, of whatever project."""
    return {
        "containers": sorted(engine.docker("ps", "-a", "--format", "{{.Names}}").split()),
        "networks": sorted(engine.docker("network", "ls", "--format", "{{.Name}}").split()),
        "volumes": sorted(engine.docker("volume", "ls", "-q").split()),
    }


def test_a_comparison_runs_on_containers_and_leaves_only_its_results(engine: Engine, folder: Path) -> None:
    before = everything(engine)
    server = {"algorithm": {"name": "cp-oadam", "collective": "server"}}
    arms = {"gossip": {}, "server": server, "ddp": {"algorithm": {"name": "ddp"}}}
    ran = gannet(folder, ["compare", "--fabric", "compose"], arms=arms, nodes=2, pace_ms=50)
    assert ran.status == 0, ran.output
    plans = []
    for arm in arms:
        summary = ran.summary(arm)
        assert summary["status"] == "finished" and summary["steps"] == 6
        assert {line["node"] for line in ran.steps(arm)} == {0, 1}
        # Whatever the method, each of two nodes sends the other all parameters or as much, by the kernel's count.
        assert summary["bytes_interface"] > 2 * 6 * 4 * summary["parameters"]
        environment = json.loads((ran.run(arm) / "environment.json").read_text())
        assert environment["fabric"] == "compose"
        certificate = json.loads((ran.run(arm) / "certificate.json").read_text())
        ordered = ("src", "dst", "expected_rate_bps", "expected_delay_ms", "expected_loss_percent")
        plans.append([[edge[name] for name in ordered] for edge in certificate["edges"]])
    assert plans[0] and all(plan == plans[0] for plan in plans)
    assert (folder / "out" / "report.html").exists()
    assert {path.stat().st_uid for path in (folder / "out").rglob("*")} == {os.geteuid()}
    assert everything(engine) == before


def test_a_spec_that_containers_cannot_run_is_refused_before_anything_starts(engine: Engine, folder: Path) -> None:
    before = everything(engine)
    ran = gannet(folder, ["run", "--fabric", "compose"], nodes=0)
    assert ran.status == 2 and "nodes" in ran.output
    assert everything(engine) == before
