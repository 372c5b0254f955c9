"""A pipe where a file should be is told, and not waited for; texts cannot command the terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gannet import ROOT

RECORDED = ROOT / "tests" / "ledger" / "run-0.1.0"
SPEC = {
    "fabric": "virtual",
    "nodes": 2,
    "pace_ms": 10,
    "task": {"name": "game"},
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 3},
    "score": None,
}


def told(*words: str) -> str:
    """What the command says, which must not wait: a minute is the whole of a slow machine's start and more."""
    argv = [sys.executable, "-m", "gannet", *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode and "Traceback" not in done.stdout + done.stderr, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["run", "{}"],
        ["net", "up", "{}", "-n", "2"],
        ["net", "apply", "{}"],
        ["net", "replay", "{}"],
        ["task", "check", "{}"],
        ["run", "cluster", "--dry-run", "--set", "topology={{name: file, path: {}}}"],
        ["run", "cluster", "--dry-run", "--set", "links.profile={}"],
        ["run", "cluster", "--dry-run", "--set", "links.regions={{matrix: {}}}"],
    ],
    ids=" ".join,
)
def test_a_pipe_that_an_argument_names(tmp_path: Path, words: list[str]) -> None:
    name = "own.py" if words[0] == "task" else "matrix.csv" if "matrix" in words[-1] else "some.yaml"
    path = pipe(tmp_path / name)
    assert str(path) in told(*(word.format(path) for word in words)).replace("│", "")


@pytest.mark.parametrize("name", ["spec.yaml", "summary.json", "steps.jsonl", "links.jsonl", "certificate.json"])
def test_a_pipe_in_the_folder_of_a_run(tmp_path: Path, name: str) -> None:
    shutil.copytree(RECORDED, tmp_path / "run")
    run = tmp_path / "run" / "gossip" / "seed-1"
    path = pipe(run / name)
    assert f"{path}: this is no regular file" in told("report", str(run))


def test_a_pipe_among_images_is_left_out(tmp_path: Path) -> None:
    from gannet.node.data.image_folder import list_folder

    (tmp_path / "cats").mkdir()
    shutil.copy(ROOT / "docs" / "report.png", tmp_path / "cats" / "one.png")
    pipe(tmp_path / "cats" / "two.png")
    folder = list_folder(tmp_path)
    assert [path.name for path in folder.files] == ["one.png"]
    assert sum(folder.others.values()) == 1
