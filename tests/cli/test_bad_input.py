"""Every command, given what is torn, empty, missing, misnamed or no file at all: a message, never a traceback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from gannet.cli.main import app

SPEC = {
    "name": "small",
    "fabric": "virtual",
    "nodes": 2,
    "links": "lte",
    "pace_ms": 10,
    "task": {"name": "mixture", "width": 4, "latent": 2, "samples": 100},
    "algorithm": {"name": "dp-oadam"},
    "snapshot_every": 2,
    "checkpoint_every": 2,
    "stop": {"steps": 4},
    "score": {"points": 1},
    "arms": {"a": {}},
}
RUN = Path("a") / "seed-1"


def torn(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)))


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (torn, empty, noise, missing, folder)


def told(*words: str) -> tuple[int, str]:
    """(exit status, output) of `gannet WORDS`, which must not end with an exception."""
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"gannet {' '.join(words)}: a traceback") from done.exception
    assert "Traceback" not in done.output
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    (place / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    status, output = told("compare", str(place / "spec.yaml"), "--out", str(place / "out"))
    assert status == 0, output
    return place / "out"


FILES = [
    "spec.yaml",
    "comparison.json",
    "report.html",
    *(
        f"{RUN}/{name}"
        for name in (
            "spec.yaml", "summary.json", "environment.json", "certificate.json", "steps.jsonl", "links.jsonl",
            "scores.jsonl", "images/step-000004.png", "snapshots/step-000004/node-0.safetensors",
            "checkpoints/step-000004/node-1.safetensors",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run(finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    for words in (
        ["resume", "{}"],
        ["resume", f"{{}}/{RUN}"],
        ["export", f"{{}}/{RUN}", "--to", str(tmp_path / "x.safetensors")],
        ["report", "{}"],
        ["report", f"{{}}/{RUN}"],
        ["score", "{}", "--points", "1"],
        ["runs", "{}"],
    ):
        shutil.copytree(finished, tmp_path / "out")
        if words[0] == "resume":
            (tmp_path / "out" / RUN / "summary.json").write_text('{"status": "stopped"}')
        damage(tmp_path / "out" / name)
        status, output = told(*(word.format(tmp_path / "out") for word in words))
        assert not status or str(tmp_path / "out") in output  # which file or folder it was
        shutil.rmtree(tmp_path / "out")


def unlike(place: Path) -> list[Path]:
    """What may be given where a .yaml or .py file belongs."""
    found = []
    for suffix in (".yaml", ".py"):
        for name, data in {
            "empty": b"", "noise": bytes(range(128, 256)), "null": b"a\0b", "list": b"[1, 2]",
            "torn": b"{nodes: 4, 'a",
            "scalar": b"7", "number keys": b"1: 2\n3: {4: 5}", "exits": b"import sys\nsys.exit(3)\n",
            "tagged": b"!!python/object/apply:os.system ['true']", "other": b"class A:\n    pass\n",
        }.items():  # fmt: skip
            found.append(place / f"{name}{suffix}")
            found[-1].write_bytes(data)
        found.append(place / f"folder{suffix}")
        found[-1].mkdir()
        found.append(place / f"missing{suffix}")
        found.append(place / "empty.yaml" / f"under a file{suffix}")
        found.append(place / ("long" * 80 + suffix))
    return found


TAKES_A_FILE = [
    ["run", "{}"],
    ["compare", "{}"],
    ["compare", "{}", "--dry-run"],
    ["task", "show", "{}"],
    ["task", "check", "{}"],
    ["algorithm", "check", "{}"],
    ["codec", "check", "{}"],
    ["topology", "{}"],
    ["net", "up", "{}", "-n", "2"],
    ["net", "apply", "{}"],
    ["net", "replay", "{}"],
    ["net", "import", "{}"],
    ["net", "traces", "{}"],
    ["net", "export", "{}", "--format", "tc"],
    ["resume", "{}"],
    ["report", "{}"],
    ["score", "{}"],
    ["sample", "{}"],
    ["tables", "{}"],
    ["log", "{}", "--to", "tensorboard"],
    ["export", "{}", "--to", "x.onnx"],
    ["certs", "show", "{}"],
]


def test_no_command_that_takes_a_file_is_left_out() -> None:
    def commands(group: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        found = set()
        for name, command in group.commands.items():
            below = commands(command, (*path, name)) if hasattr(command, "commands") else {(*path, name)}
            found |= below
        return found

    tried = {tuple(word for word in words[:2] if word.isalpha()) for words in TAKES_A_FILE}
    alone = {
        ("demo",),
        ("clean",),
        ("doctor",),
        ("specs",),
        ("serve",),
        ("fault-search",),
    }  # no file, or in a container
    # Any folder may hold runs, any name may be a new spec's, or a new folder's.
    lists = {("runs",), ("init",), ("certs", "make")}
    live = {("net", name) for name in ("clear", "partition", "isolate", "heal", "show", "verify", "exec")}
    texts = {("net", name) for name in ("profiles", "regions", "schema")}
    assert commands(get_command(app)) == tried | alone | lists | live | texts


@pytest.mark.parametrize("words", TAKES_A_FILE, ids=" ".join)
def test_what_is_no_spec_no_code_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("GANNET_OPERATOR", "127.0.0.1:9")  # no controller: `net apply` reads its file first
    monkeypatch.chdir(tmp_path)
    for path in unlike(tmp_path):
        status, output = told(*(word.format(path) for word in words))
        # A file of the one line "7" is a trace of Mahimahi, whatever its name.
        assert status or (words[1] in ("traces", "import") and path.stem == "scalar"), output
        assert output.strip()
        assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("command", ["runs", "init"])
def test_a_folder_without_runs_and_a_place_for_a_spec(tmp_path: Path, command: str) -> None:
    for path in unlike(tmp_path):
        there = os.path.lexists(path)
        status, output = told(command, str(path))
        assert output.strip()
        assert status or command == "runs" or not there  # nothing is overwritten


@pytest.mark.parametrize("field", ["task", "codec", "topology", "algorithm"])
def test_own_code_that_exits_is_told_with_its_line(tmp_path: Path, field: str) -> None:
    (tmp_path / "own.py").write_text("import sys\n\nsys.exit('not today')\n")
    spec = {name: value for name, value in SPEC.items() if name != "arms"}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**spec, field: {"name": "python", "file": "own.py"}}))
    status, output = told("run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "own.py:3: SystemExit: not today" in output
    assert not (tmp_path / "out").exists()


def test_an_own_task_that_exits_while_it_trains_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import sys\nfrom torch import nn\nfrom gannet import Task\n\nclass Own(Task):\n    uses_data = False\n"
        "    def networks(self):\n        self.net = nn.Linear(1, 1)\n        return {'net': self.net}\n"
        "    def minibatch(self):\n        sys.exit(0)\n"
    )
    spec = {name: value for name, value in SPEC.items() if name != "arms"}
    (tmp_path / "spec.yaml").write_text(
        yaml.safe_dump({**spec, "task": {"name": "python", "file": "own.py"}, "score": None})
    )
    status, output = told("run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out"))
    assert status
    assert "own.py:11: SystemExit: 0" in output


@pytest.mark.parametrize("name", ["report.html", "spec.yaml", "comparison.json", "logs", "order.yaml"])
def test_an_arm_cannot_have_the_name_of_a_file_of_the_comparison(tmp_path: Path, name: str) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**SPEC, "arms": {name: {}}}))
    status, output = told("compare", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "an arm's name becomes a folder next to" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["device=cuda:77", "score.device=cuda:77"])
def test_a_device_that_is_not_there_is_told_before_anything_starts(tmp_path: Path, device: str) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    status, output = told("compare", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out"), "--set", device)
    assert status == 2
    assert "device cuda:77: this machine has" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below", "taken"])
def test_a_place_where_no_results_can_be(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    for command in ("run", "compare"):
        status, output = told(command, str(tmp_path / "spec.yaml"), "--out", str(tmp_path / out))
        assert status == 2
        assert str(tmp_path / "file") in output or str(tmp_path / "taken") in output
        assert len(output.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["file"]


@pytest.mark.parametrize("to", ["file/below.onnx", "folder.onnx", "folder.safetensors", "x", "x.pt", ""])
def test_a_place_where_no_model_can_be(finished: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("folder.onnx", "folder.safetensors"):
        (tmp_path / name).mkdir()
    status, output = told("export", str(finished / RUN), "--to", str(tmp_path / to))
    assert status == 2
    assert len(output.strip().splitlines()) == 1
    assert to.split("/")[0] in output


def numbers(value: object, path: tuple[str, ...] = ()) -> list[str]:
    """Dotted keys of all numbers in a spec."""
    if isinstance(value, dict):
        return [key for name, each in value.items() for key in numbers(each, (*path, str(name)))]
    return [".".join(path)] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_a_number_is_finite_wherever_one_is_wanted(value: str) -> None:
    from gannet.spec.load import SpecError, load_spec

    whole = load_spec(SPEC).whole()["arms"]["a"]
    optional = ["stop.seconds", "stop.score", "task.noise", "optimizer.learning_rate_discriminator", "node_pace_ms.0"]
    tried = {*numbers(whole), *optional, "checkpoint_every", "links.schedule.0.at_s"}
    assert {"pace_ms", "optimizer.epsilon"} <= tried
    for key in sorted(tried):
        for task in (SPEC["task"], {"name": "gan"}, {"name": "game"}, {"name": "minty"}, {"name": "kdgan"}):
            with pytest.raises(SpecError) as refused:
                load_spec({**SPEC, "task": task}, [f"{key}={value}"])
            assert key.split(".")[0] in str(refused.value)
