"""The public API, by its own names only: specs, runs, comparisons and their folders from Python; docs/api.md."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

import gannet
from gannet import LedgerError, RunError, SpecError, compare, load_spec, read_comparison, read_run, run
from tests.support.gannet import ROOT, processes
from tests.support.patience import wait_until

GAME: dict[str, Any] = {
    "name": "api",
    "nodes": 2,
    "fabric": "virtual",
    "pace_ms": 10,
    "task": {"name": "game"},
    "links": "lte",
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 6},
    "snapshot_every": 3,
    "score": {"points": 2},
    "arms": {"gossip": {}, "alone": {"algorithm": {"name": "local"}}},
}
TASK = """
import torch
from gannet import Evaluation, Settings, Task

class Choices(Settings):
    fails_at: int = 0

class Mine(Task):
    Settings = Choices
    uses_data = False

    def networks(self):
        self.line = torch.nn.Linear(2, 1)
        return {"line": self.line}

    def minibatch(self):
        return self.noise(4, 2)

    def losses(self, batch):
        if self.calls == self.settings.fails_at:
            raise ArithmeticError("the third batch is bad")
        return {"line": (self.line(batch) - 1).square().mean()}

    def measure(self):
        return Evaluation(float(self.line.bias.sub(1).abs()), {"weight": float(self.line.weight.norm())})
"""


def own_task(folder: Path, **settings: Any) -> Path:
    """A spec file next to a task's file."""
    (folder / "mine.py").write_text(TASK)
    (folder / "mine.yaml").write_text(
        "fabric: virtual\npace_ms: 10\nnodes: 2\nlinks: lte\n"
        "stop: {steps: 6}\nsnapshot_every: 3\nscore: {points: 2}\n"
        f"algorithm: {{name: local}}\ntask: {{name: python, file: mine.py, settings: {settings}}}\n"
    )
    return folder / "mine.yaml"


def test_the_package_has_its_names_and_importing_it_imports_nothing_else() -> None:
    assert set(gannet.__all__) <= set(dir(gannet))
    for name in gannet.__all__:
        assert getattr(gannet, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Tasks'"):
        gannet.Tasks  # noqa: B018
    code = "import sys; before = set(sys.modules); import gannet; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gannet" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith(("gannet.", "torch", "numpy", "pydantic"))]


def test_a_spec_is_a_file_a_name_or_a_mapping_with_values_in_place_of_others() -> None:
    spec = load_spec(GAME, {"nodes": 3, "arms.gossip.codec": "fp16"})
    assert spec == load_spec(GAME, ["nodes=3", "arms.gossip.codec=fp16"])
    assert [(arm.nodes, arm.codec) for arm in spec.arms.values()] == [(3, "fp16"), (3, "fp32")]
    assert load_spec("demo", {"nodes": 2}).arms["gossip"].nodes == 2
    with pytest.raises(SpecError, match=r"nodes: must be at most 1024 \(got 9999\)"):
        load_spec(GAME, {"nodes": 9999})
    with pytest.raises(SpecError, match="overrides: give a mapping"):
        load_spec(GAME, "nodes=3")
    with pytest.raises(SpecError, match=r"neither a \.yaml file nor a shipped spec"):
        load_spec("nosuch")


@pytest.mark.slow
def test_a_run_is_trained_scored_and_returned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(GAME, arm="gossip", seed=5, out=tmp_path / "out")
    assert (done.arm, done.seed, done.folder) == ("gossip", 5, tmp_path / "out" / "gossip" / "seed-5")
    assert done.finished and done.trusted and done.model
    assert sorted((step.node, step.step) for step in done.steps) == [(n, s) for n in (0, 1) for s in range(1, 7)]
    assert done.scores[-1].step == 6 and done.summary.final_score == done.scores[-1].score
    assert (tmp_path / "out" / "report.html").exists()
    assert "finished: 6 steps" in capsys.readouterr().out
    assert read_run(tmp_path / "out") == read_run(done.folder) == done


@pytest.mark.slow
def test_a_comparison_has_every_arm_and_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = compare(load_spec(GAME, {"seeds": [1, 2]}), out=tmp_path / "out", quiet=True)
    assert [(each.arm, each.seed) for each in done.runs] == [("gossip", 1), ("gossip", 2), ("alone", 1), ("alone", 2)]
    assert capsys.readouterr().out == ""
    assert read_comparison(tmp_path / "out") == done
    with pytest.raises(LedgerError, match="it holds 4 runs"):
        read_run(tmp_path / "out")


def test_what_cannot_be_started_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"api has several arms: choose one \(gossip, alone\)"):
        run(GAME, out=tmp_path)
    with pytest.raises(SpecError, match="api has no arm 'server'; it has gossip, alone"):
        compare(GAME, arms=["gossip", "server"], out=tmp_path)
    with pytest.raises(SpecError, match="seed -1: a whole number"):
        run(GAME, arm="gossip", seed=-1, out=tmp_path)
    (tmp_path / "here").write_text("something")
    with pytest.raises(FileExistsError, match="is not empty: choose another folder"):
        run(GAME, arm="gossip", out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


@pytest.mark.slow
def test_a_task_derived_from_task_trains_and_what_goes_wrong_in_it_is_an_exception(tmp_path: Path) -> None:
    done = run(own_task(tmp_path), out=tmp_path / "good", quiet=True)
    assert done.scores[-1].more.keys() == {"weight"} and done.summary.final_score == done.scores[-1].score
    with pytest.raises(
        RunError, match=r"(?s)0 of 1 runs finished in .*ArithmeticError: the third batch is bad"
    ) as bad:
        run(own_task(tmp_path, fails_at=3), out=tmp_path / "bad", quiet=True)
    assert read_run(bad.value.folder).summary.status == "failed"
    wrong = own_task(tmp_path)
    (tmp_path / "mine.py").write_text(TASK.replace("torch.nn.Linear(2, 1)", "torch.nn.Linear(2)"))
    with pytest.raises(RunError, match=r"mine\.py:13: TypeError"):
        run(wrong, out=tmp_path / "wrong", quiet=True)


SCRIPT = """
import sys
from gannet import read_run, run
try:
    run({spec!r}, arm="gossip", out={out!r})
except KeyboardInterrupt:
    print("interrupted:", read_run({out!r}).summary.status, flush=True)
"""


def started(tmp_path: Path) -> subprocess.Popen[str]:
    """A script whose run takes for ever, as soon as it trains."""
    script = tmp_path / "script.py"
    endless = {**GAME, "stop": {"seconds": 10**7}, "score": None}
    script.write_text(SCRIPT.format(spec=endless, out=str(tmp_path / "out")))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "MARKER": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert any("step" in line for line in process.stdout)
    return process


@pytest.mark.slow
def test_an_interrupted_script_hears_of_it_when_the_run_has_stopped(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert "interrupted: stopped" in output and process.returncode == 0
    wait_until("no process of it is left", lambda: not processes(f"MARKER={tmp_path}"))


@pytest.mark.slow
def test_a_run_does_not_outlive_its_script(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.kill()
    process.communicate(timeout=240)  # the run had this pipe too: its end is that of the last process
    wait_until("no process of it is left", lambda: not processes(f"MARKER={tmp_path}"))


@pytest.mark.real("runs")
def test_the_namespaces_fabric_runs_from_a_program_with_threads(tmp_path: Path) -> None:
    """As in a notebook: sandboxes are entered by processes with one thread, and this one has several."""
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        links = {"profile": {"rate": "50Mbit", "delay_ms": 5}}
        done = run(load_spec(GAME, {"fabric": "namespaces", "links": links}), arm="gossip", out=tmp_path / "out")
    finally:
        stop.set()
        other.join()
    assert done.finished and not done.model and done.certificate is not None and len(done.certificate.edges) == 2
    model = run(load_spec(GAME, {"links": links}), arm="gossip", out=tmp_path / "model")
    losses = [sorted((s.step, s.node, s.loss["generator"]) for s in each.steps) for each in (done, model)]
    assert losses[0] == losses[1]  # to the bit, whatever the fabric


def test_the_command_says_its_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    done = subprocess.run([sys.executable, "-m", "gannet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gannet {version}\n"


def test_the_old_name_of_task_still_works_and_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="OwnTask is now Task: from gannet import Task"):
        from gannet.node.tasks.custom.base import OwnTask
    assert OwnTask is gannet.Task
