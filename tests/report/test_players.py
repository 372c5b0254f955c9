"""The report's panels a player: whatever players a task has, their losses and distances are the ledger's, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gannet.experiment.compare import execute
from gannet.report import read_comparison, write_report
from gannet.report.player_plots import consensus, losses
from gannet.report.results import measure
from gannet.spec.load import resolve

KDGAN = {"name": "kdgan", "hidden": 8, "filters": 2, "features": 6, "pretrain_steps": 4, "labels": 80}
TURNS = """
import torch
from gannet.node.tasks.custom.base import Task

class Turns(Task):
    '''Five players; the first plays always, the others one after the other.'''
    uses_data = False
    def networks(self):
        self.lines = {f"p{number}": torch.nn.Linear(2, 1) for number in range(5)}
        return self.lines
    def minibatch(self):
        return self.noise(4, 2)
    def losses(self, batch):
        playing = ("p0", f"p{1 + self.calls % 4}")
        return {name: self.lines[name](batch).square().mean() for name in playing}
"""


def compare(folder: Path, **raw: Any) -> Path:
    """Run a spec on the virtual fabric and return the comparison's folder."""
    spec = {"fabric": "virtual", "pace_ms": 10, "nodes": 2, "links": "demo-10mbit", **raw}
    assert execute(resolve(spec, str(folder / "spec.yaml")), folder / "out", Console(quiet=True))
    return folder / "out"


def told(run: Path, player: str) -> np.ndarray:
    """Rows (training seconds, loss) of a player's steps, means over nodes, by hand."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for line in map(json.loads, (run / "steps.jsonl").read_text().splitlines()):
        if player in line["loss"]:
            rows.setdefault(line["step"], []).append((line["t_s"], line["loss"][player]))
    return np.array([np.mean(rows[step], axis=0) for step in sorted(rows)])


def panel(figure: dict[str, Any], number: int) -> dict[str, dict[str, Any]]:
    """The lines of one panel, counted from 1, by their arm."""
    axis = f"y{number}" if number > 1 else "y"
    return {trace["name"]: trace for trace in figure["data"] if trace["yaxis"] == axis and "name" in trace}


def headings(figure: dict[str, Any]) -> list[str]:
    return [note["text"] for note in figure["layout"]["annotations"]]


def legend(figure: dict[str, Any]) -> list[str]:
    return [trace["name"] for trace in figure["data"] if trace["showlegend"]]


@pytest.fixture(scope="module")
def kdgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm of one player before an arm of three."""
    arms = {"alone": {"task": {"method": "classifier"}}, "all": {}}
    return compare(
        tmp_path_factory.mktemp("kdgan"),
        task=KDGAN, arms=arms, algorithm={"name": "local"}, stop={"steps": 10}, snapshot_every=5, score={"points": 3},
    )  # fmt: skip


def test_losses_of_kdgans_three_players_are_drawn_by_name(kdgan: Path) -> None:
    figure = losses(measure(read_comparison(kdgan)))
    assert figure is not None
    assert headings(figure) == ["Classifier", "Teacher", "Discriminator"]
    assert legend(figure) == ["alone", "all"]
    for number, player in enumerate(("classifier", "teacher", "discriminator"), start=1):
        lines = panel(figure, number)
        assert set(lines) == ({"alone", "all"} if player == "classifier" else {"all"})
        for arm, line in lines.items():
            by_hand = told(kdgan / arm / "seed-1", player)
            np.testing.assert_allclose(np.transpose([line["x"], line["y"]]), by_hand, rtol=1e-4, atol=1e-4)
    # Four moves of pretraining, in which all play; then the game's six, two each.
    assert [len(panel(figure, number)["all"]["x"]) for number in (1, 2, 3)] == [6, 6, 6]


def test_how_far_the_nodes_are_apart_is_drawn_for_the_same_players(kdgan: Path) -> None:
    figure = consensus(measure(read_comparison(kdgan)))
    assert figure is not None
    assert headings(figure) == ["Classifier", "Teacher", "Discriminator"] and legend(figure) == ["alone", "all"]
    scores = [json.loads(line) for line in (kdgan / "all" / "seed-1" / "scores.jsonl").read_text().splitlines()]
    assert scores[-1]["consensus_teacher"] > 0
    for number, player in enumerate(("classifier", "teacher", "discriminator"), start=1):
        drawn = panel(figure, number)["all"]["y"]
        assert drawn == pytest.approx([line[f"consensus_{player}"] for line in scores], rel=1e-4)
    page = write_report(read_comparison(kdgan)).read_text(encoding="utf-8")
    assert 'id="figure-losses"' in page and 'id="figure-consensus"' in page


def test_players_of_ones_own_task_that_take_turns_are_all_there_in_a_long_run(tmp_path: Path) -> None:
    """400 steps are drawn as fewer points. A player that moves at every fourth step must not fall between them."""
    (tmp_path / "turns.py").write_text(TURNS, encoding="utf-8")
    folder = compare(
        tmp_path, nodes=1, task={"name": "python", "file": "turns.py"}, algorithm={"name": "local"},
        stop={"steps": 400}, snapshot_every=200, score=None, arms={"turns": {}},
    )  # fmt: skip
    figure = losses(measure(read_comparison(folder)))
    assert figure is not None
    assert sorted(headings(figure)) == ["P0", "P1", "P2", "P3", "P4"]
    for number, heading in enumerate(headings(figure), start=1):
        line = panel(figure, number)["turns"]
        by_hand = told(folder / "turns" / "seed-1", heading.lower())
        assert len(by_hand) == (400 if heading == "P0" else 100)
        if heading == "P0":
            by_hand = by_hand.reshape(100, 4, 2).mean(1)
        np.testing.assert_allclose(np.transpose([line["x"], line["y"]]), by_hand, rtol=1e-4, atol=1e-4)
    places = {
        (tuple(figure["layout"][f"xaxis{n}"]["domain"]), tuple(figure["layout"][f"yaxis{n}"]["domain"]))
        for n in ("", 2, 3, 4, 5)
    }
    assert len(places) == 5 and all(0 <= low < high <= 1 for place in places for low, high in place)
