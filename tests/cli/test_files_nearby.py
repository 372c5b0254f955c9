"""A user's own files in the folder where `gannet` is typed harm nothing, whatever their names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.gannet import QUICK, ROOT

OURS = ("netem", "node", "cluster", "experiment", "proto", "gannet", "tests", "dashboards", "child", "main")
OTHERS = ("torch", "grpc", "yaml", "typer", "numpy", "json", "logging")
MODULE = [sys.executable, "-m", "gannet"]
SCRIPT = [str(Path(sys.executable).with_name("gannet"))]


def litter(folder: Path, *packages: str) -> Path:
    """A folder where each of these modules, and a gannet.yaml, would be noticed at once if it were read."""
    folder.mkdir()
    for name in (*OURS, *OTHERS):
        if name != "gannet":
            (folder / f"{name}.py").write_text(f"print('the user\\'s own {name}')\nraise SystemExit(9)\n")
    for name in packages:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"print('the user\\'s own {name}')\nraise SystemExit(9)\n")
    (folder / "gannet.yaml").write_text("nodes: [no, spec\n")
    return folder


def variables(folder: Path, path: str = str(ROOT)) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GANNET_")}
    return {
        **clean,
        "PYTHONPATH": path,
        "XDG_STATE_HOME": str(folder / "state"),
        "COLUMNS": "200",
        "GANNET_PORT": "1",
    }


def gannet(argv: list[str], folder: Path) -> str:
    done = subprocess.run(argv, cwd=folder, env=variables(folder), capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the user's own" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_compare_and_score_are_unharmed(tmp_path: Path) -> None:
    folder = litter(tmp_path / "here")
    score = {"samples": 100, "metrics": ["frechet"], "points": 1}
    (folder / "mine.yaml").write_text(
        yaml.safe_dump({**QUICK, "nodes": 2, "stop": {"steps": 3}, "pace_ms": 40, "score": score})
    )
    gannet([*MODULE, "compare", "mine.yaml", "--fabric", "virtual", "--out", "out"], folder)
    gannet([*MODULE, "score", "out", "--samples", "120"], folder)
    assert json.loads((folder / "out" / "run" / "seed-1" / "summary.json").read_text())["steps"] == 3
    assert (folder / "out" / "report.html").exists()


@pytest.mark.real("runs")
def test_a_run_over_links_is_unharmed(tmp_path: Path) -> None:
    folder = litter(tmp_path / "here", "gannet")
    (folder / "mine.yaml").write_text(yaml.safe_dump({**QUICK, "nodes": 2, "stop": {"steps": 3}}))
    gannet([*SCRIPT, "run", "mine.yaml", "--out", "out"], folder)
    summary = json.loads((folder / "out" / "run" / "seed-1" / "summary.json").read_text())
    assert summary["steps"] == 3


@pytest.mark.real("runs")
def test_a_network_without_training_is_unharmed(tmp_path: Path) -> None:
    folder = litter(tmp_path / "here")
    up = subprocess.Popen(
        [*MODULE, "net", "up", "lte", "-n", "2", "--no-certify"], cwd=folder, env=variables(folder), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert up.stdout is not None
    said = []
    try:
        while not said or "--controller" not in said[-1]:
            said.append(up.stdout.readline())
            assert said[-1], f"it ended: {said}"
        exec_ = [*MODULE, "net", "exec", "--controller", said[-1].split()[-1], "0", "--", "printenv", "GANNET_NODES"]
        assert gannet(exec_, folder) == "2\n"
        up.send_signal(signal.SIGINT)
        said += up.communicate(timeout=240)[0].splitlines()
    finally:
        up.kill()
        up.communicate()
    assert up.returncode == 0 and not any("the user's own" in line for line in said), said
