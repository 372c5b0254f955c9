"""`gannet runs` against the ledger's own reader, and the spec that `gannet init` writes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.cli.run_folders import TEMPLATE
from gannet.ledger.reader import read_comparison
from gannet.spec.load import resolve

SPEC = {
    "name": "points", "fabric": "virtual", "pace_ms": 10, "nodes": 2, "seeds": [1, 2], "snapshot_every": 2,
    "task": {"name": "mixture", "modes": "ring-8"}, "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 4}, "arms": {"zeta": {}, "alpha": {"score": None}},
}  # fmt: skip


def command(*arguments: object, status: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))
    assert done.exit_code == status, done.output
    return done.output


def listed(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    lines = [json.loads(line) for line in command("runs", folder, "--json").splitlines()]
    return {(line["arm"], line["seed"]): line for line in lines}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    (folder / "points.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    command("compare", folder / "points.yaml", "--out", folder / "runs" / "first")
    return folder / "runs"


def test_what_is_listed_is_what_the_reader_finds(trained: Path) -> None:
    found = listed(trained)
    for run in read_comparison(trained / "first").runs:
        line = found.pop((run.arm, run.seed))
        assert (line["status"], line["steps"], line["seconds"]) == ("finished", 4, run.summary.seconds)
        assert (line["score"], line["distrust"]) == (run.summary.final_score, list(run.distrust))
        assert (line["score"] is None) == (run.arm == "alpha")
    assert found == {}
    rows = command("runs", trained).splitlines()
    assert [re.split(r"\s{2,}", row)[:3] for row in rows[1:3]] == [
        ["first", "zeta", "2 finished"], ["", "alpha", "2 finished"],
    ]  # fmt: skip
    assert rows[3].startswith("score: ")
    assert command("runs", trained / "first" / "zeta" / "seed-2").count("finished") == 1


def test_runs_that_did_not_end_well_are_listed_with_how_far_they_came(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "first", tmp_path / "cut")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "spec.yaml").write_text("name: later")
    (tmp_path / "of-something-else").mkdir()
    killed, torn = tmp_path / "cut/zeta/seed-1", tmp_path / "cut/zeta/seed-2"
    (killed / "summary.json").unlink()
    lines = (killed / "steps.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    last = next(number for number, step in enumerate(steps) if step["step"] == 3)
    (killed / "steps.jsonl").write_text("\n".join(lines[: last + 1]) + "\n" + lines[-1][:20])
    (torn / "summary.json").write_text("{")
    found = listed(tmp_path)
    assert (found["zeta", 1]["status"], found["zeta", 1]["steps"]) == ("unfinished", 3)
    assert found["zeta", 1]["seconds"] == steps[last]["t_s"]
    assert (
        found["zeta", 2]["status"] == "unreadable" and "summary.json line 1: not JSON" in found["zeta", 2]["reason"]
    )
    text = command("runs", tmp_path)
    assert "1 unfinished, 1 unreadable" in text and f"{torn}: unreadable: " in text
    assert re.search(r"^begun +– +not begun", text, re.MULTILINE) and "something-else" not in text


def test_a_run_of_version_0_1_0_is_listed(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "ledger" / "run-0.1.0", tmp_path / "old")
    (line,) = listed(tmp_path).values()
    assert line["status"] == "finished" and line["score"] > 0


def test_a_folder_that_is_none_is_one_error(tmp_path: Path) -> None:
    text = command("runs", tmp_path / "missing", status=2)
    assert text.startswith(f"gannet: {tmp_path / 'missing'}: no such folder") and text.count("\n") == 1
    assert "no runs in it" in command("runs", tmp_path)


def test_init_writes_a_spec_that_can_be_run_and_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "specs" / "lte.yaml"
    assert str(file) in command("init", file)
    assert "name: lte\n" in file.read_text()
    assert "gossip: 4 nodes on fabric namespaces" in command("compare", file, "--dry-run")
    file.write_text("mine")
    assert f"{file} exists" in command("init", file, status=2)
    assert file.read_text() == "mine"


LINES = TEMPLATE.read_text(encoding="utf-8").splitlines()
SETTINGS = [number for number, line in enumerate(LINES) if re.match(r"#\S", line)]


@pytest.mark.parametrize("number", SETTINGS, ids=[LINES[number].split("#")[1].strip() for number in SETTINGS])
def test_each_setting_of_the_template_to_try_takes_effect(number: int, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    setting = yaml.safe_load(LINES[number][1:])
    ((field, value),) = setting.items()
    plain = yaml.safe_load("\n".join(LINES))
    changed = {**plain, field: value}
    if value == {"name": "mixture", "modes": "ring-8"}:  # as its comment says
        del changed["data"]
    if field == "mixing":  # the same
        changed["arms"] = {name: arm for name, arm in plain["arms"].items() if name != "all-reduce"}
    before, after = (resolve(raw, str(tmp_path / "spec.yaml")).whole() for raw in (plain, changed))
    assert before != after
    assert LINES[number].count("#") <= 2 and len(LINES[number]) <= 118
