"""Scores of each node's own model: against an exported node's, scored by other code; nodes that agree; one node."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from gannet import read_comparison, read_run, tables
from gannet.cli.main import app
from gannet.experiment.compare import execute, score_again
from gannet.node.data.config import DataConfig
from gannet.node.tasks.base import random_stream
from gannet.node.tasks.config import TaskConfig
from gannet.node.tasks.gan.architectures import build_networks
from gannet.node.tasks.gan.task import SAMPLING_STREAM
from gannet.report.formatting import number
from gannet.report.node_scores import at_the_end, over_time, spreads
from gannet.report.results import measure
from gannet.scores.scorer import NOISE_SEED, Scorer
from gannet.spec.load import SpecError, resolve

TASK = {"width": 4, "latent": 5}
SPEC: dict[str, Any] = {
    "name": "quick",
    "fabric": "virtual",
    "nodes": 3,
    "task": TASK,
    "batch": 2,
    "pace_ms": 10,
    "optimizer": {"learning_rate": 0.02},
    "algorithm": {"name": "local"},
    "stop": {"steps": 6},
    "snapshot_every": 3,
    "score": {"samples": 200, "points": 3, "metrics": ["kid"], "node_models": "last"},
}


def run(folder: Path, **changes: Any) -> Path:
    spec = resolve({**SPEC, **changes}, str(folder / "quick.yaml"))
    assert execute(spec, folder / "out", Console(file=io.StringIO()))
    return folder / "out" / "run" / "seed-1"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose nodes train alone."""
    return run(tmp_path_factory.mktemp("apart"))


def test_an_exported_nodes_images_have_its_score(apart: Path, tmp_path: Path) -> None:
    """By a plain module that loads the exported file: no flat vector, no snapshot, no scoring of runs."""
    scorer = Scorer(DataConfig(), 200, metrics=["frechet", "kid"])
    *earlier, last = lines(apart)
    assert all("node_models" not in line for line in earlier)
    assert [own["node"] for own in last["node_models"]] == [0, 1, 2]
    assert len({own["score"] for own in last["node_models"]} | {last["score"]}) == 4
    for own in last["node_models"]:
        to = tmp_path / f"{own['node']}.safetensors"
        done = CliRunner().invoke(app, ["export", str(apart), "--to", str(to), "--node", str(own["node"])])
        assert done.exit_code == 0, done.output
        generator, _ = build_networks(TaskConfig.model_validate(TASK), (1, 28, 28))
        assert load_file(to).keys() == generator.state_dict().keys()
        generator.load_state_dict(load_file(to), strict=False)  # torch adds counters, which these norms do not have
        noise = torch.randn(200, 5, generator=random_stream(NOISE_SEED, SAMPLING_STREAM))
        with torch.no_grad():
            score = scorer.score(generator.eval()(noise))
        assert own["score"] == pytest.approx(score.value, rel=1e-6)
        assert own["more"]["kid"] == pytest.approx(score.more["kid"], rel=1e-5, abs=1e-9)


def test_with_one_node_its_own_model_is_the_mean(tmp_path: Path) -> None:
    (last,) = lines(run(tmp_path, nodes=1, score={**SPEC["score"], "points": 1}))
    assert [own["score"] for own in last["node_models"]] == [last["score"]]
    assert last["node_models"][0]["more"] == {"kid": last["kid"]}


def test_after_an_all_reduce_every_nodes_model_is_the_mean(tmp_path: Path) -> None:
    ring = {"name": "cp-oadam", "collective": "ring"}
    found = lines(run(tmp_path, nodes=4, algorithm=ring, score={**SPEC["score"], "node_models": "all"}))
    assert len(found) == 3
    for line in found:
        assert [own["score"] for own in line["node_models"]] == [line["score"]] * 4


def test_the_report_shows_their_spread_and_tables_have_a_row_for_each(apart: Path) -> None:
    own = [each["score"] for each in lines(apart)[-1]["node_models"]]
    (spread,) = spreads(measure(read_comparison(apart.parents[1])))
    best, worst = own.index(min(own)), own.index(max(own))
    assert spread.cells == (
        "3", number(lines(apart)[-1]["score"]), f"{number(own[best])} (node {best})", number(median(own)),
        f"{number(own[worst])} (node {worst})",
    )  # fmt: skip
    text = (apart.parents[1] / "report.html").read_text()
    assert "Each node’s own model" in text and spread.cells[2] in text and "figure-node-scores" in text
    figure = at_the_end(measure(read_comparison(apart.parents[1])))
    assert figure is not None and figure["data"][0]["y"] == own
    made = tables(read_run(apart))
    rows = made["node_scores"]
    assert list(rows["score"]) == own and list(rows["node"]) == [0, 1, 2] and set(rows["step"]) == {6}
    assert "node_models" not in made["scores"] and len(made["scores"]) == 3
    assert (rows["more.kid"] == [each["more"]["kid"] for each in lines(apart)[-1]["node_models"]]).all()


def test_at_all_snapshots_they_are_drawn_over_time(apart: Path) -> None:
    before = (apart / "scores.jsonl").read_bytes()
    last = lines(apart)[-1]["node_models"]
    done = CliRunner().invoke(app, ["score", str(apart), "--node-models", "all"])
    assert done.exit_code == 0, done.output
    found = lines(apart)
    assert len(found) == 3 and all(len(line["node_models"]) == 3 for line in found)
    assert found[-1]["node_models"] == last
    assert len({own["score"] for own in found[0]["node_models"]}) == 1  # all begin alike
    figure = over_time(measure(read_comparison(apart.parents[1])))
    assert figure is not None
    least = next(trace for trace in figure["data"] if trace["name"] == "lowest node")
    assert least["y"] == [min(own["score"] for own in line["node_models"]) for line in found]
    (apart / "scores.jsonl").write_bytes(before)


def test_a_node_that_has_diverged_has_no_score_and_costs_the_others_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path)
    file = folder / "snapshots" / "step-000006" / "node-1.safetensors"
    x = load_file(file)["x"]
    x[3] = torch.inf
    save_file({"x": x}, file, {"step": "6", "t_s": "1.0", "bytes": "0"})
    assert score_again(folder, Console(file=io.StringIO())) == 0
    last = lines(folder)[-1]
    assert last["score"] is None and [own["score"] is None for own in last["node_models"]] == [False, True, False]
    (spread,) = spreads(measure(read_comparison(folder.parents[1])))
    assert spread.cells[0] == "2 of 3" and spread.cells[1] == "–"


def test_a_game_scores_its_nodes_too(tmp_path: Path) -> None:
    """The distance to the saddle point, in NumPy."""
    game = {"name": "game", "dimension": 4, "spread": 0.5}
    folder = run(tmp_path, task=game, batch=1, score={"points": 2, "node_models": "all"})
    for line in lines(folder):
        step = folder / "snapshots" / f"step-{line['step']:06d}"
        own = [load_file(step / f"node-{rank}.safetensors")["x"] for rank in range(3)]
        mean = torch.stack(own).mean(0)
        found = {each["node"]: each["score"] for each in line["node_models"]}
        assert len(found) == 3
        if torch.equal(own[0], own[1]):
            assert found[0] == found[1] == line["score"]
        else:
            assert len(set(found.values())) == 3
        assert not torch.equal(mean, own[0]) or line["step"] == 0


def test_where_nodes_have_no_models_of_their_own_it_is_refused(tmp_path: Path) -> None:
    md_gan = {"algorithm": {"name": "md-gan"}, "task": {**TASK, "batch_norm_buffers": "absent"}}
    with pytest.raises(SpecError, match=r"score\.node_models: with md-gan nodes have no models of their own"):
        resolve({**SPEC, **md_gan}, "quick.yaml")
    with pytest.raises(SpecError, match=r"score\.node_models: must be 'none', 'last' or 'all'"):
        resolve({**SPEC, "score": {"node_models": "best"}}, "quick.yaml")


def test_a_wrong_wish_names_the_option(apart: Path) -> None:
    done = CliRunner().invoke(app, ["score", str(apart), "--node-models", "best"])
    assert done.exit_code == 2 and "--node-models: must be 'none', 'last' or 'all'" in done.output
    done = CliRunner().invoke(app, ["export", str(apart), "--to", str(apart / "x.safetensors"), "--node", "7"])
    assert done.exit_code == 2 and "--node 7: " in done.output and "has nodes 0, 1, 2" in done.output
    done = CliRunner().invoke(app, ["sample", str(apart), "--to", str(apart / "x.png"), "--node", "1"])
    assert done.exit_code == 0, done.output
