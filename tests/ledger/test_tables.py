"""Tables hold what the run folder's lines hold, read back by pyarrow and csv."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml
from typer.testing import CliRunner

from gannet import read_comparison, read_run, tables
from gannet.cli.main import app

SPEC = {
    "name": "points", "fabric": "virtual", "pace_ms": 10, "nodes": 3, "seeds": [1, 2], "snapshot_every": 2,
    "task": {"name": "mixture", "modes": "ring-8"}, "stop": {"steps": 4},
    "arms": {"gossip": {"algorithm": {"name": "dp-oadam"}}, "alone": {"algorithm": {"name": "local"}}},
}  # fmt: skip


def command(*arguments: object, status: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    (folder / "points.yaml").write_text(yaml.safe_dump(SPEC))
    command("compare", folder / "points.yaml", "--out", folder / "out")
    return folder / "out"


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob(f"*/seed-*/{name}.jsonl")):
        where = {"arm": path.parts[-3], "seed": int(path.parts[-2].removeprefix("seed-"))}
        found += [where | json.loads(line) for line in path.read_text().splitlines()]
    return found


def test_parquet_has_every_step_and_score_with_its_arm_and_seed(trained: Path, tmp_path: Path) -> None:
    written = command("tables", trained, "--to", tmp_path / "t").split()
    assert {Path(name).name for name in written} >= {"runs.parquet", "steps.parquet", "scores.parquet"}
    steps = pyarrow.parquet.read_table(tmp_path / "t" / "steps.parquet").to_pylist()
    expected = lines(trained, "steps")
    assert len(steps) == len(expected) == 2 * 2 * 3 * 4

    def key(line: dict[str, Any]) -> tuple[Any, ...]:
        return line["arm"], line["seed"], line["node"], line["step"]

    for found, line in zip(sorted(steps, key=key), sorted(expected, key=key), strict=True):
        assert {name: found[name] for name in ("arm", "seed", "node", "step", "t_s", "codec_bytes")} == {
            name: line[name] for name in ("arm", "seed", "node", "step", "t_s", "codec_bytes")
        }
        assert {name: found[f"loss.{name}"] for name in line["loss"]} == line["loss"]
        assert list(found["missing"]) == line["missing"]
    scores = pyarrow.parquet.read_table(tmp_path / "t" / "scores.parquet").to_pylist()
    assert sorted(each["score"] for each in scores) == sorted(each["score"] for each in lines(trained, "scores"))
    runs = pyarrow.parquet.read_table(tmp_path / "t" / "runs.parquet").to_pylist()
    for found in runs:
        summary = json.loads((trained / found["arm"] / f"seed-{found['seed']}" / "summary.json").read_text())
        assert (found["status"], found["final_score"]) == ("finished", summary["final_score"])
        assert found["step_s.median"] == summary["step_s"]["median"] and found["trusted"]


def test_csv_and_dataframes_have_the_same(trained: Path, tmp_path: Path) -> None:
    command("tables", trained, "--to", tmp_path, "--csv")
    with (tmp_path / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    frame = tables(read_comparison(trained))["steps"]
    assert [int(row["codec_bytes"]) for row in rows] == frame["codec_bytes"].tolist()
    assert {row["missing"] for row in rows} == {"[]"}
    assert frame.groupby("arm")["codec_bytes"].sum()["alone"] == 0 < frame["codec_bytes"].sum()
    one = tables(read_run(trained / "gossip" / "seed-2"))
    assert len(one["runs"]) == 1 and len(one["steps"]) == 12 and set(one["steps"]["seed"]) == {2}


def test_a_folder_without_runs_is_one_error(tmp_path: Path) -> None:
    text = command("tables", tmp_path, "--to", tmp_path / "t", status=2)
    assert text.startswith("gannet: ") and "no run in it" in text and not (tmp_path / "t").exists()
