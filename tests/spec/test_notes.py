"""Settings that take no effect are told: before the run, in its summary, and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.node.data.shard import Shard
from gannet.node.methods.registry import AlgorithmConfig
from gannet.node.tasks import build_task
from gannet.node.tasks.config import TaskConfig, TaskSetting, check_labels
from gannet.node.tasks.kdgan.config import KdganConfig
from gannet.spec.load import load_spec
from gannet.spec.notes import comparison_notes, idle_settings
from gannet.spec.run_spec import RunSpec
from tests.scores.test_faults import npz
from tests.support.runs import Memory, virtual_job

METHOD: TypeAdapter[AlgorithmConfig] = TypeAdapter(AlgorithmConfig)
TASKS: TypeAdapter[TaskSetting] = TypeAdapter(TaskSetting)
GAME = {"name": "game", "dimension": 4}
EVERY = [
    {"name": "dp-oadam", "every": 4},
    {"name": "cp-oadam", "collective": "ring", "every": 4},
    {"name": "diloco", "every": 4},
    {"name": "fedgan", "every": 4},
]


def spec(**changes: Any) -> RunSpec:
    base = {"algorithm": {"name": "dp-oadam"}, "task": GAME, "stop": {"steps": 20}, "nodes": 4}
    return RunSpec.model_validate({**base, **changes})


@pytest.mark.parametrize("algorithm", EVERY, ids=lambda algorithm: algorithm["name"])
def test_nodes_send_nothing_before_the_step_at_which_they_first_exchange(algorithm: dict[str, Any]) -> None:
    first, _ = METHOD.validate_python(algorithm).traits.first_acts["every"]
    sent = {}
    for steps in (first - 1, first):
        memory = Memory()
        run_virtual(virtual_job(algorithm, steps=steps, task=GAME), memory)
        sent[steps] = sum(stats.codec_bytes for each in memory.steps.values() for stats in each)
        noted = idle_settings(spec(algorithm=algorithm, stop={"steps": steps}))
        assert bool(noted) == (sent[steps] == 0)
    assert sent[first - 1] == 0 < sent[first]


def test_players_stand_still_before_the_step_at_which_they_first_move() -> None:
    config = TaskConfig(width=4, latent=4, critic_steps=3)
    shard = Shard(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    task = build_task(config, shard, 0, 1, 1, 4)
    moved = [task.gradient(task.initial()).active for _ in range(3)]
    first, _ = config.first_acts["critic_steps"]
    assert ["generator" in active for active in moved] == [step >= first for step in (1, 2, 3)]
    for method in ("kdgan", "mimic", "distn", "nagan"):
        kdgan = KdganConfig(name="kdgan", method=method, pretrain_steps=7)
        first, _ = kdgan.first_acts["pretrain_steps"]
        assert kdgan.active(first - 2) == kdgan.players != kdgan.active(first - 1)
    alone = KdganConfig(name="kdgan", method="classifier", pretrain_steps=7)
    assert not alone.first_acts and alone.active(6) == alone.active(7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": {"name": "dp-oadam", "every": 50}}, "algorithm.every: nodes exchange at step 50 first"),
        (
            {"players": {"generator": {"algorithm": {"name": "cp-oadam", "every": 50}}}},
            "players.generator.algorithm.every: nodes exchange at step 50 first",
        ),
        ({"algorithm": {"name": "gossip-pga", "global_every": 30}}, "algorithm.global_every: all nodes average at "),
        ({"algorithm": {"name": "md-gan"}, "task": {"width": 8}}, "algorithm.swap_every: discriminators change"),
        (
            {"algorithm": {"name": "ddp", "hook": "powersgd", "start_powersgd_iter": 30}},
            "algorithm.start_powersgd_iter: PowerSGD compresses at step 31 first",
        ),
        ({"task": {"name": "kdgan"}}, "task.pretrain_steps: what method kdgan is begins at step 501 first"),
        (
            {"task": {"name": "kdgan"}, "stop": {"seconds": 10}, "pace_ms": 50},
            "task.pretrain_steps: what method kdgan is begins at step 501 first, and the run ends with step 201",
        ),
        ({"task": {"critic_steps": 21}}, "task.critic_steps: the generator moves at step 21 first"),
        ({"checkpoint_every": 100}, "checkpoint_every: a checkpoint to resume from is made at step 100 first"),
        ({"optimizer": {"decay_steps": 5}}, "optimizer.decay_steps: 5 is before the last step, 20: the last 15"),
        (
            {"stop": {"seconds": 30}, "links": {"schedule": [{"at_s": 40, "partition": "0:1"}]}},
            "links.schedule.0: nothing changes at 40 s, since the run ends after 30 s",
        ),
        ({"task": {"loss": "hinge", "gradient_penalty": 5}}, "task.gradient_penalty: does nothing with loss hinge"),
        ({"fabric": "virtual", "pace_ms": 20, "engine": "netem"}, "engine: netem does nothing on fabric virtual"),
        (
            {"fabric": "virtual", "pace_ms": 20, "links": {"stack": {"congestion_control": "reno"}}},
            "links.stack: does nothing on fabric virtual",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_told(changes: dict[str, Any], expected: str) -> None:
    (note,) = idle_settings(spec(**changes))
    assert note.startswith(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": {"name": "dp-oadam", "every": 20}},
        {"algorithm": {"name": "dp-oadam", "every": 50}, "stop": {"seconds": 1}},  # it ends with an exchange
        {"task": {"name": "kdgan", "method": "classifier"}},
        {"task": {"name": "kdgan"}, "stop": {"seconds": 1}},  # nobody knows how many steps that will be
        {"optimizer": {"decay_steps": 20}, "checkpoint_every": 20},
        {"task": {"loss": "hinge"}, "fabric": "virtual", "pace_ms": 20},
    ],
)
def test_a_setting_that_acts_has_no_note(changes: dict[str, Any]) -> None:
    assert idle_settings(spec(**changes)) == []


def test_notes_stand_before_the_run_in_its_summary_and_in_the_report(tmp_path: Path) -> None:
    whole = {
        "name": "idle", "fabric": "virtual", "nodes": 2, "pace_ms": 20, "task": GAME, "stop": {"steps": 6},
        "topology": "ring", "score": {"points": 2},
        "arms": {
            "gossip": {"algorithm": {"name": "dp-oadam", "every": 50}},
            "server": {"algorithm": {"name": "cp-oadam", "every": 50}},
            "longer": {"algorithm": {"name": "local"}, "stop": {"steps": 60}},
        },
    }  # fmt: skip
    idle = "gossip, server: algorithm.every: nodes exchange at step 50 first, and the run ends with step 6"
    ends = "stop: arms end differently (gossip, server after 6 steps; longer after 60 steps)"
    file, out = tmp_path / "idle.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(whole))
    for more in (["--dry-run"], ["--out", str(out)]):
        done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["compare", str(file), *more])
        assert done.exit_code == 0 and done.output.count(f"note: {idle}") == 1 == done.output.count(f"note: {ends}")
    (note,) = json.loads((out / "gossip/seed-1/summary.json").read_text())["notes"]
    assert note.startswith("algorithm.every: nodes exchange at step 50 first")
    notes = json.loads((out / "comparison.json").read_text())["notes"]
    assert any(text.startswith("gossip and server: algorithm.every") for text in notes)
    assert any(text.startswith(ends) for text in notes)


def test_shipped_arms_say_what_they_differ_in() -> None:
    (note,) = comparison_notes(load_spec("baselines"))
    assert note.startswith("stop: arms end differently (gossip, choco after 45 s; ")
    assert comparison_notes(load_spec("demo")) == []


@pytest.mark.parametrize("classes", [3, 10])
def test_classes_that_the_data_do_not_have_are_refused_before_the_run(classes: int, tmp_path: Path) -> None:
    data = npz(tmp_path / "two.npz", 8).model_dump()
    expected = f"task.classes is {classes}, but the data has labels from 0 to 1: set task.classes: 2"
    for task in ({"architecture": "dcgan", "classes": classes}, {"name": "kdgan", "classes": classes}):
        setting: TaskSetting = TASKS.validate_python(task)
        with pytest.raises(ValueError, match=expected):
            check_labels(setting, [{"0": 4}, {"1": 4}])
        check_labels(setting.model_copy(update={"classes": 2}), [{"0": 4}, {"1": 4}])
    whole = {"task": {"name": "kdgan", "classes": classes}, "data": data, "stop": {"steps": 2}, "nodes": 1}
    file, out = tmp_path / "spec.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**whole, "algorithm": {"name": "local"}, "fabric": "virtual", "pace_ms": 20}))
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["run", str(file), "--out", str(out)])
    assert done.exit_code == 2 and expected in done.output and not out.exists()
