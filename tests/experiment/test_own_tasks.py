"""Tasks in specs: games without data, somebody's own file; what is said of mistakes, what the ledger keeps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.checks import check_plugins
from gannet.experiment.compare import execute
from gannet.experiment.job import job_of
from gannet.node.config import NodeConfig
from gannet.node.plugins import PluginError, fingerprint
from gannet.node.tasks import build_sampler
from gannet.node.tasks.config import PythonTaskConfig
from gannet.spec.load import SpecError, load_spec, resolve
from gannet.spec.run_spec import ComparisonSpec, RunSpec
from tests.support.runs import play

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "my_task.py"
MINIMAL = """
import torch
from gannet.node.tasks.custom.base import Task

class Mine(Task):
    uses_data = False
    def networks(self):
        self.line = torch.nn.Linear(2, 1)
        return {"line": self.line}
    def minibatch(self):
        return self.noise(4, 2)
    def losses(self, batch):
        return {"line": self.line(batch).square().mean()}
"""


def spec_with(folder: Path, text: str, **more: Any) -> ComparisonSpec:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    raw = {
        "fabric": "virtual", "pace_ms": 10, "nodes": 2, "algorithm": {"name": "local"}, "stop": {"steps": 4},
        "task": {"name": "python", "file": "mine.py"}, **more,
    }  # fmt: skip
    return resolve(raw, str(folder / "spec.yaml"))


def test_the_example_is_short_and_trains_and_is_scored(tmp_path: Path) -> None:
    """docs/examples on the virtual fabric from end to end: gossip's score falls, and its folder can be run again."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60
    sets = ["arms.gossip.nodes=2", "stop.steps=12", "snapshot_every=6", "score.points=3", "batch=8"]
    whole = load_spec(EXAMPLE.with_suffix(".yaml"), sets)
    one = whole.model_copy(update={"arms": {"gossip": whole.arms["gossip"]}})
    assert execute(one, tmp_path / "run", Console(quiet=True))
    folder = tmp_path / "run" / "gossip" / "seed-1"
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert [line["score_name"] for line in scores] == ["squared error of a pixel"] * 3
    assert scores[-1]["score"] < 0.8 * scores[0]["score"] and scores[0]["worst"] > 0
    assert (folder / "images").is_dir() and (tmp_path / "run" / "report.html").is_file()
    # The ledger has the text, once readable, once as part of the spec, whose text it is for good.
    text = EXAMPLE.read_text(encoding="utf-8")
    assert (folder / "my_task.py").read_text(encoding="utf-8") == text
    recorded = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    assert recorded["task"]["source"] == text and recorded["task"]["sha256"] == fingerprint(text)
    again = load_spec(tmp_path / "run" / "spec.yaml")
    assert again.arms["gossip"] == one.arms["gossip"]


def test_the_text_goes_to_the_nodes_with_their_configuration(tmp_path: Path) -> None:
    """As JSON, and without the file."""
    spec = spec_with(tmp_path, MINIMAL, score=None).arms["run"]
    (tmp_path / "mine.py").unlink()
    told = NodeConfig.model_validate_json(job_of(spec).config.model_dump_json())
    assert isinstance(told.task, PythonTaskConfig) and told.task.source == MINIMAL
    memory, outcome = play(job_of(spec))
    assert outcome.status == "finished" and memory.states(4).shape == (2, 3)
    changed = json.loads(told.model_dump_json())
    changed["task"]["source"] += "\n"
    with pytest.raises(ValueError, match=r"the text of mine\.py is not the one that sha256"):
        NodeConfig.model_validate(changed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torch\nimport no_such_module\n", r"mine\.py:2: ModuleNotFoundError: .*no_such_module"),
        (
            "x = 1\n",
            r"mine\.py:1: there is no task in it: define a class derived from gannet\.Task",
        ),
        (
            "x = 1\n\ndef build(settings):\n    ...\n",
            r"mine\.py:3: build\(settings\) cannot be called with two",
        ),
        ("build = 3\n", r"mine\.py: build is of type int"),
        ("def build(settings, context):\n    return 3\n", r"mine\.py: build gave int, which is no task"),
        ("def build(settings, context):\n    return settings['width']\n", r"mine\.py:2: KeyError: 'width'"),
        (MINIMAL + "class Other(Task):\n    pass\n", r"mine\.py: Mine and Other are tasks both"),
        (MINIMAL.replace('{"line"', '{"a line"'), r"^mine\.py: networks\(\) names a player 'a line'"),
    ],
)
def test_a_file_that_makes_no_task_is_one_error_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PluginError, match=words) as error:
        check_plugins(spec_with(tmp_path, text, score=None))
    assert "\n" not in str(error.value)


def test_a_mistake_in_training_is_told_with_its_line(tmp_path: Path) -> None:
    text = MINIMAL.replace("return self.noise(4, 2)", "return self.noise(4, 2 + self.calls // 3)")
    with pytest.raises(PluginError, match=r"mine\.py:13: RuntimeError: mat1 and mat2 shapes") as error:
        play(job_of(spec_with(tmp_path, text, score=None).arms["run"]))
    assert isinstance(error.value.__cause__, RuntimeError)


def test_a_mistake_that_the_base_class_finds_in_training_names_the_file(tmp_path: Path) -> None:
    text = MINIMAL.replace(".mean()}", ".mean().item()}")
    with pytest.raises(PluginError, match=r"^mine\.py: losses\(\)\['line'\] must be a scalar tensor, got float"):
        play(job_of(spec_with(tmp_path, text, score=None).arms["run"]))


def test_mistakes_in_the_spec_are_told_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"mine\.py:2: .*this is not Python"):
        spec_with(tmp_path, "x = 1\ny = (\n")
    with pytest.raises(SpecError, match=r"task\.file: .*other\.py: no such file; the path is relative to the spec"):
        spec_with(tmp_path, MINIMAL, task={"name": "python", "file": "other.py"})
    with pytest.raises(SpecError, match=r"either a file .* or an entry point"):
        spec_with(tmp_path, MINIMAL, task={"name": "python"})
    with pytest.raises(SpecError, match=r"unknown filed .did you mean file..; allowed: name, file, entry"):
        spec_with(tmp_path, MINIMAL, task={"name": "python", "filed": "mine.py"})
    with pytest.raises(SpecError, match=r"data: mine\.py has no data set: leave out data"):
        check_plugins(spec_with(tmp_path, MINIMAL, score=None, data={"name": "fashion-mnist-mini"}))
    with pytest.raises(SpecError, match=r"mine\.py has no measure\(\) to score by"):
        check_plugins(spec_with(tmp_path, MINIMAL))
    with pytest.raises(PluginError, match=r"unknown width; allowed: "):
        check_plugins(
            spec_with(tmp_path, MINIMAL, task={"name": "python", "file": "mine.py", "settings": {"width": 3}})
        )


def test_an_entry_point_that_is_not_installed_is_told_with_those_that_are() -> None:
    with pytest.raises(PluginError, match=r"no entry point 'mine' of group gannet\.tasks is installed here"):
        build_sampler(PythonTaskConfig(name="python", entry="mine"), RunSpec.model_fields["data"].default)


def test_an_installed_entry_point_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought.py").write_text(MINIMAL, encoding="utf-8")
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gannet.tasks]\nmine = brought:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = build_sampler(PythonTaskConfig(name="python", entry="mine"), RunSpec.model_fields["data"].default)
    assert task.size == 3 and list(task.players) == ["line"]


@pytest.mark.parametrize("name", ["game", "minty", "mixture"])
def test_a_game_has_no_data(name: str) -> None:
    raw = {"algorithm": {"name": "local"}, "stop": {"steps": 1}, "task": {"name": name}}
    spec = resolve(raw, "x.yaml").arms["run"]
    written = spec.model_dump(mode="json")
    assert "data" not in written and RunSpec.model_validate(written) == spec
    with pytest.raises(SpecError, match=f"data: task {name} has no data set: leave out data"):
        resolve({**raw, "data": {"sharding": "iid"}}, "x.yaml")


@pytest.mark.parametrize(
    ("name", "measure"), [("games", "distance to the saddle point"), ("mixture", "Wasserstein-1")]
)
def test_shipped_games_run_on_every_arm(name: str, measure: str, tmp_path: Path) -> None:
    sets = [
        "stop={steps: 6}",
        "snapshot_every=3",
        "score.points=2",
        "task.samples=100" if name == "mixture" else "nodes=4",
    ]
    comparison = load_spec(name, sets)
    assert list(comparison.arms)[:3] == ["dp-oadam", "dposg", "cp-oadam"]
    assert execute(comparison, tmp_path / "run", Console(quiet=True))
    for arm in comparison.arms:
        last = json.loads((tmp_path / "run" / arm / "seed-1" / "scores.jsonl").read_text().splitlines()[-1])
        assert measure in last["score_name"] and 0 < last["score"] < 200
        assert ("modes_found" in last) == (name == "mixture")
    assert bool(list((tmp_path / "run").rglob("images/*.png"))) == (name == "mixture")


def check(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["task", "check", *arguments], env={"COLUMNS": "200"})
    torch.set_num_threads(1)
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_the_command_passes_the_example_and_names_what_is_wrong(tmp_path: Path) -> None:
    code, said = check(str(EXAMPLE), "--settings", "width=8", "--batch", "4")
    assert (code, said) == (0, "my_task.py: no mistakes found ")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(MINIMAL.replace("self.noise(4, 2)", "__import__('numpy').random.rand() * self.noise(4, 2)"))
    code, said = check(str(wrong))
    assert code == 1 and "global-random: x_0 or the gradient changes with NumPy's global random numbers fix: " in said
    assert "wrong.py: 1 found" in said
    wrong.write_text(MINIMAL.replace("return {", "return oh[0] or {"))
    code, said = check(str(wrong))
    assert code == 1 and "wrong.py:9: NameError" in said
    assert check(str(tmp_path / "none.py"))[0] == 1
    assert "--settings width: write key=value" in check(str(EXAMPLE), "--settings", "width")[1]


def test_a_comparison_can_do_with_some_of_its_arms(tmp_path: Path) -> None:
    def compare(arms: str) -> tuple[int, str]:
        argv = ["compare", "games", "--arms", arms, "--set", "stop={steps: 2}", "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(app, argv, env={"COLUMNS": "200"})
        torch.set_num_threads(1)
        return done.exit_code, done.output

    code, said = compare("dposg, nobody")
    assert code == 2 and "games has no arm 'nobody'; it has dp-oadam, dposg" in said
    assert not (tmp_path / "out").exists()
    code, said = compare("dposg, dp-oadam")
    assert code == 0, said
    assert sorted(path.parent.name for path in (tmp_path / "out").glob("*/seed-*")) == ["dp-oadam", "dposg"]


def test_an_error_is_said_once_and_ends_with_its_own_status(tmp_path: Path) -> None:
    argv = ["compare", "games", "--set", "arms.dposg.fabric=compose", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, argv, env={"COLUMNS": "300"})
    torch.set_num_threads(1)
    assert done.exit_code == 2 and done.output.count("gannet:") == 1, done.output
    assert "the arms name compose and virtual" in done.output
