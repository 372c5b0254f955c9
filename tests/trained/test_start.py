"""`start_from`: what a run began with is what the file holds, read by safetensors or torch themselves."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.compare import execute
from gannet.experiment.job import job_of
from gannet.node.data.datasets import load_shard
from gannet.node.tasks import build_sampler, build_task
from gannet.node.tasks.gan.task import GanTask
from gannet.spec.load import SpecError, load_spec, resolve
from gannet.spec.notes import comparison_notes, idle_settings
from gannet.spec.run_spec import RunSpec
from gannet.trained.export import export
from gannet.trained.start import carried, start_of

SPEC: dict[str, Any] = {
    "name": "quick",
    "fabric": "virtual",
    "nodes": 2,
    "task": {"width": 4, "latent": 5},
    "batch": 2,
    "pace_ms": 10,
    "algorithm": {"name": "dp-oadam"},
    "stop": {"steps": 4},
    "snapshot_every": 2,
    "score": None,
}


def run(folder: Path, name: str, **changes: Any) -> Path:
    """Trains, and returns the run's folder."""
    spec = resolve({**SPEC, **changes}, str(folder / "quick.yaml"))
    assert execute(spec, folder / name, Console(file=io.StringIO()))
    return folder / name / "run" / f"seed-{spec.seeds[0]}"


def states(run: Path, step: int) -> Tensor:
    files = sorted((run / "snapshots" / f"step-{step:06d}").glob("node-*.safetensors"))
    return torch.stack([load_file(file)["x"] for file in files])


def single(folder: Path, **changes: Any) -> RunSpec:
    return resolve({**SPEC, **changes}, str(folder / "quick.yaml")).runs()[0]


def refused(folder: Path, **changes: Any) -> str:
    """The message before any training, which a dry run has too."""
    (folder / "wrong.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    said = []
    for more in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, ["run", str(folder / "wrong.yaml"), "--out", str(folder / "none"), *more])
        assert done.exit_code == 2 and "Traceback" not in done.output, done.output
        said.append(" ".join(done.output.split()))
    assert not (folder / "none").exists() and said[0] == said[1]
    return said[0]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, in the folder of the specs."""
    folder = tmp_path_factory.mktemp("before")
    run(folder, "first")
    return folder


def whole(seed: int = 3) -> tuple[GanTask, dict[str, Tensor]]:
    """The task, and some values of all of its tensors by their names."""
    task = build_sampler(single(Path()).task, single(Path()).data)
    assert isinstance(task, GanTask)
    random = torch.Generator().manual_seed(seed)
    return task, {spec.name: torch.rand(spec.shape, generator=random) for spec in task.layout}


@pytest.mark.parametrize("step", ["last", 2])
def test_a_run_begins_at_the_mean_of_another_ones_snapshot(before: Path, tmp_path: Path, step: str | int) -> None:
    source = before / "first" / "run" / "seed-1"
    began = run(tmp_path, "next", start_from={"run": str(source), "step": step}, seed=7)
    number = 4 if step == "last" else 2
    mean = states(source, number).mean(0)
    assert (states(began, 0) == mean).all() and len(states(began, 0)) == 2
    found = json.loads((began / "environment.json").read_text())["start"]
    assert found["source"] == f"step {number} of {source}" and found["players"] == ["all"]
    said = " ".join((tmp_path / "next" / "report.html").read_text().split())
    assert f"run began from step {number} of {source} (SHA-256 {found['sha256'][:16]})" in said


def test_a_path_alone_is_a_run_or_a_file_and_relative_to_the_spec(before: Path) -> None:
    _, tensors = whole()
    save_file(tensors, before / "all.safetensors")
    (before / "short.yaml").write_text(yaml.safe_dump({**SPEC, "start_from": "all.safetensors"}))
    spec = load_spec(before / "short.yaml").runs()[0]
    assert spec.start_from is not None and spec.start_from.file == str(before / "all.safetensors")
    spec = load_spec(before / "short.yaml", ["start_from=first/run/seed-1"]).runs()[0]
    assert spec.start_from is not None and spec.start_from.run == str(before / "first" / "run" / "seed-1")
    again = RunSpec.model_validate(yaml.safe_load(yaml.safe_dump(spec.model_dump(mode="json"))))
    assert again.start_from == spec.start_from


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "nested.pth", "counted.pt"])
def test_a_file_of_all_players(tmp_path: Path, name: str) -> None:
    task, tensors = whole()
    if name.endswith("safetensors"):
        save_file(tensors, tmp_path / name)
    elif name == "nested.pth":  # a state dict a player
        torch.save(
            {p: {n.removeprefix(f"{p}."): t for n, t in tensors.items() if n.startswith(p)} for p in task.players},
            tmp_path / name,
        )
    else:
        more = {"generator.norm1.num_batches_tracked": torch.tensor(9)} if name == "counted.pt" else {}
        torch.save({**tensors, **more}, tmp_path / name)
    began = run(tmp_path, "out", start_from=name)
    truth = torch.cat([tensors[spec.name].flatten() for spec in task.layout])
    assert (states(began, 0) == truth).all()


def test_what_was_exported_begins_a_new_run_player_by_player(before: Path, tmp_path: Path) -> None:
    source = before / "first" / "run" / "seed-1"
    for player in ("generator", "discriminator"):
        export(source, tmp_path / f"{player}.safetensors", player)
    players = {player: f"{player}.safetensors" for player in ("generator", "discriminator")}
    both = run(tmp_path, "both", start_from={"players": players})
    assert (states(both, 0) == states(source, 4).mean(0)).all()
    one = run(tmp_path, "one", start_from={"players": {"generator": "generator.safetensors"}}, seed=5)
    spec = single(tmp_path, seed=5)
    task = build_sampler(spec.task, spec.data)
    drawn = GanTask(task.config, spec.data.image_shape, seed=5).initial() if isinstance(task, GanTask) else None
    assert drawn is not None
    for each in task.layout:
        truth = states(source, 4).mean(0) if each.name.startswith("generator.") else drawn
        assert (states(one, 0)[:, each.place] == truth[each.place]).all(), each.name
    facts = json.loads((one / "environment.json").read_text())["start"]
    assert facts["players"] == ["generator"] and facts["source"].startswith("generator: /")


def test_of_a_file_of_all_players_one_can_be_taken(tmp_path: Path) -> None:
    _, tensors = whole()
    save_file(tensors, tmp_path / "all.safetensors")
    found = start_of(single(tmp_path, start_from={"players": {"discriminator": "all.safetensors"}}))
    assert found is not None
    assert set(found.tensors) == {name for name in tensors if name.startswith("discriminator.")}
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in found.tensors)


def test_the_moving_average_begins_there(tmp_path: Path) -> None:
    """After one update of decay 1/10 and the present x of 2/11: x_1 + 2/11 (x_0 - x_1)."""
    task, tensors = whole()
    save_file(tensors, tmp_path / "w.safetensors")
    changes: dict[str, Any] = {"start_from": "w.safetensors", "snapshot_every": 1, "stop": {"steps": 1}}
    plain = run(tmp_path, "plain", **changes)
    averaged = run(tmp_path, "averaged", **changes, task={**SPEC["task"], "ema": 0.999})
    x0, x1, served = states(plain, 0), states(plain, 1), states(averaged, 1)
    where = task.players["generator"]
    torch.testing.assert_close(served[:, where], (x1 + 2 / 11 * (x0 - x1))[:, where])
    assert (served[:, where] != x1[:, where]).any() and (x1 != x0).any()


def test_the_optimizer_begins_at_zero_not_where_the_other_run_was(before: Path, tmp_path: Path) -> None:
    """The first step from a snapshot is Adam's first: by bias correction its size is twice the rate, or less."""
    rate = 0.002
    began = run(tmp_path, "next", start_from=str(before / "first" / "run" / "seed-1"), snapshot_every=1,
                algorithm={"name": "local"}, optimizer={"learning_rate": rate})  # fmt: skip
    task, _ = whole()
    moved = (states(began, 1) - states(began, 0))[:, : task.buffers.start].abs()
    spec = single(tmp_path)
    gradients = []
    for rank in range(2):
        one = build_task(spec.task, load_shard(spec.data, rank, 2, spec.seed), rank, 2, spec.seed, spec.batch)
        gradients.append(one.gradient(states(began, 0)[rank]).field[: task.buffers.start].abs())
    large = torch.stack(gradients) > 1e-3
    assert large.float().mean() > 0.1
    torch.testing.assert_close(moved[large], torch.full_like(moved[large], 2 * rate), rtol=1e-2, atol=1e-6)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._marker}",)


def test_what_does_not_fit_is_refused_in_one_error_that_lists_it(tmp_path: Path) -> None:
    _, tensors = whole()
    names = list(tensors)
    wrong = {name: tensor for name, tensor in tensors.items() if name != names[0]}
    wrong[names[1]] = torch.zeros(3, 2)
    wrong[names[2]] = tensors[names[2]].half()
    wrong[names[3]] = torch.full_like(tensors[names[3]], torch.nan)
    wrong["epoch"] = torch.tensor(4.0)
    save_file(wrong, tmp_path / "wrong.safetensors")
    said = refused(tmp_path, start_from="wrong.safetensors")
    for part in (
        f"start_from: {tmp_path}/wrong.safetensors does not fit this task: {names[1]} has",
        f"missing: {names[0]};",
        f"{names[1]} has shape [3, 2], here {list(tensors[names[1]].shape)}",
        f"{names[2]} is float16, here float32",
        f"{names[3]} has values that are not finite",
        "no tensor of this task: epoch",
    ):
        assert part in said
    save_file({f"x{i}": torch.zeros(1) for i in range(9)}, tmp_path / "many.safetensors")
    said = refused(tmp_path, start_from="many.safetensors")
    assert (
        f"missing: {', '.join(names[:4])} and {len(names) - 4} more; no tensor of this task: x0, x1, x2, x3 and 5"
        in said
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "loss": "x"}, "no tensor of this task: epoch, loss"),
        ([1, 2], "it holds a list; a state dict has names and tensors"),
        (None, "neither .safetensors nor a state dict of tensors that torch.save has written"),
    ],
)
def test_other_files(tmp_path: Path, content: Any, message: str) -> None:
    if content is None:
        (tmp_path / "w.pt").write_bytes(b"no weights at all")
    else:
        torch.save(content, tmp_path / "w.pt")
    assert message in refused(tmp_path, start_from="w.pt")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    torch.save({"generator": Evil(tmp_path / "marker")}, tmp_path / "w.pt")
    assert "and other objects are not loaded" in refused(tmp_path, start_from="w.pt")
    assert not (tmp_path / "marker").exists()


def test_one_players_file_must_be_named_as_such(before: Path, tmp_path: Path) -> None:
    export(before / "first" / "run" / "seed-1", tmp_path / "g.safetensors", "generator")
    said = refused(tmp_path, start_from="g.safetensors")
    assert "These are the names of the generator alone: give start_from: {players: {generator: …}}" in said
    torch.save({f"module.{n}": t for n, t in load_file(tmp_path / "g.safetensors").items()}, tmp_path / "ddp.pt")
    said = refused(tmp_path, start_from={"players": {"generator": "ddp.pt"}})
    assert "All names begin with module., as DistributedDataParallel has them" in said


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"run": "a", "file": "b"}, "weights are either in a run"),
        ({"step": 3}, "weights are either in a run"),
        ({"file": "b", "step": 3}, "step belongs to run"),
        ({"run": "first/run/seed-1", "step": 3}, "start_from: step 3: there is no snapshot of step 3"),
        ({"run": "first/run/seed-1", "step": "best"}, "start_from: step best: "),
        ({"run": "first"}, "is not a single run: give one of its runs"),
        ("nowhere", "nowhere: no such file, nor a run's folder"),
        ({"players": {"critic": "first/run/seed-1"}}, "this task has generator, discriminator"),
        ({"players": {"generator": {"run": "x", "file": "y"}}}, "weights are either in a run"),
        ({"file": "b", "players": {"generator": "c"}}, "leave out those for all players"),
        (3, "start_from: "),
    ],
)
def test_a_wrong_request(before: Path, start: Any, message: str) -> None:
    assert message in refused(before, start_from=start)


def test_another_tasks_run_does_not_fit(before: Path, tmp_path: Path) -> None:
    source = str(before / "first" / "run" / "seed-1")
    assert "has shape" in refused(tmp_path, start_from=source, task={"width": 8, "latent": 5})
    loss = single(tmp_path, start_from=source, task={**SPEC["task"], "loss": "non-saturating"})  # the same networks
    assert start_of(loss) is not None


def test_resuming_with_other_weights_is_refused_by_name(tmp_path: Path) -> None:
    _, tensors = whole()
    save_file(tensors, tmp_path / "w.safetensors")
    kept = (tmp_path / "w.safetensors").read_bytes()
    began = run(tmp_path, "out", start_from="w.safetensors", checkpoint_every=2)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / "w.safetensors")
    command = ["resume", str(tmp_path / "out"), "--set", "stop.steps=6"]
    done = CliRunner().invoke(app, command)
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and "start_from: weights of SHA-256" in said and "--allow-changes" in said
    (tmp_path / "w.safetensors").unlink()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "no such file" in done.output and "Traceback" not in done.output
    (tmp_path / "w.safetensors").write_bytes(kept)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    longer = run(tmp_path, "longer", start_from="w.safetensors", stop={"steps": 6})
    assert torch.equal(states(began, 6), states(longer, 6))


def test_arms_that_begin_differently_are_noted(before: Path, tmp_path: Path) -> None:
    source = str(before / "first" / "run" / "seed-1")
    arms = {"given": {"start_from": source}, "drawn": {}}
    spec = resolve({**SPEC, "arms": arms}, str(tmp_path / "quick.yaml"))
    (note,) = comparison_notes(spec)
    assert note.startswith("start_from: arms begin differently (given from the last snapshot of ")
    assert "drawn from what the seed draws" in note
    assert execute(spec, tmp_path / "out", Console(file=io.StringIO()))
    assert (
        "start_from: arms begin differently (given from step 4 of" in (tmp_path / "out" / "report.html").read_text()
    )
    same = resolve({**SPEC, "start_from": source, "arms": {"a": {}, "b": {"codec": "fp16"}}}, "quick.yaml")
    assert comparison_notes(same) == []


def test_weights_travel_to_a_cluster_in_the_folder_of_the_comparison(before: Path, tmp_path: Path) -> None:
    """The order is read there by another process, in another place."""
    source = str(before / "first" / "run" / "seed-1")
    arms = {"all": {"start_from": source}, "one": {"start_from": {"players": {"generator": source}}}, "none": {}}
    spec = resolve({**SPEC, "arms": arms}, str(tmp_path / "quick.yaml"))
    (tmp_path / "out").mkdir()
    order = carried(spec, tmp_path / "out").whole()
    (tmp_path / "out" / "order.yaml").write_text(yaml.safe_dump(order))
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    there = load_spec(tmp_path / "elsewhere" / "order.yaml")
    for name, arm in spec.arms.items():
        here, found = start_of(arm), start_of(there.arms[name])
        assert (here and here.sha256) == (found and found.sha256)
    weights = job_of(there.arms["one"]).start_weights
    assert weights is not None and all(name.startswith("generator.") for name in weights.tensors)


def test_an_arm_may_name_another_kind_of_source_than_the_rest() -> None:
    arms: dict[str, Any] = {"a": {}, "b": {"start_from": {"file": "/w.pt"}}, "c": {"start_from": None}}
    arms["d"] = {"start_from": {"players": {"generator": "/g.pt"}}}
    spec = resolve({**SPEC, "start_from": {"run": "/r", "step": 7}, "arms": arms}, "quick.yaml")
    titles = {name: arm.start_from and arm.start_from.title for name, arm in spec.arms.items()}
    assert titles == {"a": "step 7 of /r", "b": "/w.pt", "c": None, "d": "generator: /g.pt"}
    step = resolve({**SPEC, "start_from": {"run": "/r"}}, "quick.yaml", ["start_from.step=best"])
    assert step.arms["run"].start_from and step.arms["run"].start_from.title == "the best snapshot of /r"


def test_a_game_that_begins_elsewhere_than_its_task_says_is_noted() -> None:
    game = {"name": "minty", "start": 9.0}
    given = {"start_from": "/w.safetensors", "task": game, "pace_ms": 1}
    assert "task.start: does nothing, since start_from gives all values" in idle_settings(single(Path(), **given))
    assert not idle_settings(single(Path(), **{**given, "start_from": None}))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown epoch; allowed: run, step, file, players"):
        resolve({**SPEC, "start_from": {"epoch": 3}}, "quick.yaml")
