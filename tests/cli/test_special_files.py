"""A pipe where a file should be is told, and not waited for; texts cannot command the terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

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
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240)
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


HOSTILE = "evil \x1b]0;owned\x07 \x1b[2J\x1b[31mred \x9b31m \u202eabc [bold]x[/bold]"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_label_cannot_command_the_terminal(tmp_path: Path, terminal: bool) -> None:
    """Neither while it trains nor from the folder that it leaves, nor in an error that quotes it."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({**SPEC, "label": HOSTILE, "algorithm": {"name": "local"}}))
    environment = {**os.environ, "COLUMNS": "200", **({"FORCE_COLOR": "1", "TERM": "xterm"} if terminal else {})}
    out = str(tmp_path / "out")
    said = ""
    for words in (["run", str(spec), "--out", out], ["report", out], ["run", str(spec), "--set", f"nodes={HOSTILE}"]):
        argv = [sys.executable, "-m", "gannet", *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == (0 if "--set" not in words else 2), done.stderr
        assert "evil" in done.stdout + done.stderr
        said += done.stdout + done.stderr
    ours = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r", "" if terminal else "!", said)
    found = {character for character in ours if not character.isprintable() and character != "\n"}
    assert not found, ascii(ours)
    assert "[bold]x[/bold]" in ours and "\x1b[2J" not in said
