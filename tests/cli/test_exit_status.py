"""Commands end with the statuses of docs/reliability.md, and a run that is told to end reports what it has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

SPEC = {
    "fabric": "virtual", "nodes": 2, "task": "game", "algorithm": "dp-oadam", "pace_ms": 5, "score": None,
    "stop": {"seconds": 10**7},
}  # fmt: skip


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gannet", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def trains(out: Path, process: subprocess.Popen[str]) -> None:
    steps = out / "run" / "seed-1" / "steps.jsonl"
    while not (steps.exists() and steps.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_scheduler_ends_reports_what_it_has(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(SPEC))
    process = started(tmp_path, "run", "my.yaml", "--out", "out")
    trains(tmp_path / "out", process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in output, output
    summary = json.loads((tmp_path / "out" / "run" / "seed-1" / "summary.json").read_text())
    assert summary["status"] == "stopped" and summary["steps"] > 0 and summary["reason"] == "interrupted by the user"
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({**SPEC, "stop": {"steps": 3}}, 0),
        ({**SPEC, "nodes": 0}, 2),
        (
            {**SPEC, "stop": {"steps": 400}, "codec": "fp16", "optimizer": {"learning_rate": 1e30}},
            1,
        ),  # fp16 cannot hold it
    ],
)
def test_the_status_says_whether_all_went_well(tmp_path: Path, spec: dict[str, Any], status: int) -> None:
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(spec))
    process = started(tmp_path, "run", "my.yaml", "--out", "out")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    assert (tmp_path / "out").exists() == (status != 2)
    assert ("gannet: " in output) == (status == 2)
