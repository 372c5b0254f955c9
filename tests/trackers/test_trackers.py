"""What trackers were given, read back by their own readers, is what the run folder has."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.tracking import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner
from wandb.proto import wandb_internal_pb2

from gannet.cli.main import app
from gannet.trackers import base

SPEC: dict[str, Any] = {
    "name": "logged",
    "fabric": "virtual",
    "nodes": 3,
    "links": "lte",
    "pace_ms": 10,
    "task": {"width": 4, "latent": 5},
    "batch": 2,
    "stop": {"steps": 8},
    "snapshot_every": 4,
    "score": {"samples": 100, "points": 3, "metrics": ["kid"], "node_models": "last"},
    "arms": {"gossip": {"algorithm": {"name": "dp-oadam"}}, "alone": {"algorithm": {"name": "local"}}},
}
ARMS = ("gossip", "alone")
Curves = dict[str, dict[int, float]]


def command(*words: object, env: Mapping[str, str] | None = None, status: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200", **(env or {})}).invoke(app, list(map(str, words)))
    assert done.exit_code == status and "Traceback" not in done.output, done.output
    return done.output


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "logged.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    return folder / "logged.yaml"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was logged to all trackers while it ran."""
    folder = tmp_path_factory.mktemp("live")
    said = command(
        "compare", written(folder), "--out", folder / "out", "--log", "tensorboard,mlflow", "--log", "wandb"
    )
    for where in ("tensorboard --logdir", "wandb sync", "mlflow ui --backend-store-uri sqlite:"):
        assert f"logged: {where}" in said
    return folder / "out"


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def truth(run: Path) -> Curves:
    """From the lines of the run folder alone."""
    found: Curves = {}

    def put(name: str, step: int, value: float | None) -> None:
        if value is not None:
            found.setdefault(name, {})[step] = value

    steps = lines(run, "steps")
    for step in sorted({line["step"] for line in steps}):
        here = [line for line in steps if line["step"] == step]
        for player in here[0]["loss"]:
            put(f"loss/{player}", step, fmean(line["loss"][player] for line in here))
        for part in ("compute", "wait", "other"):
            put(f"seconds/{part}", step, fmean(line[f"{part}_s"] for line in here))
        for layer in ("codec", "grpc", "interface"):
            put(f"sent_bytes/{layer}", step, sum(x[f"{layer}_bytes"] for x in steps if x["step"] <= step))
        put("t_s", step, max(line["t_s"] for line in here))
    for line in lines(run, "scores"):
        step = line["step"]
        put("score", step, line["score"])
        put("score/classes_found", step, line["classes_found"])
        put("score/kid", step, line.get("kid"))
        for player in ("generator", "discriminator"):
            put(f"consensus/{player}", step, line[f"consensus_{player}"])
        for own in line.get("node_models", ()):
            put(f"score/node-{own['node']}", step, own["score"])
    return found


def assert_same(found: Curves, expected: Curves) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].keys() == values.keys(), name
        for step, value in values.items():
            assert found[name][step] == pytest.approx(value, rel=1e-6, abs=1e-12), (name, step)


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def of_tensorboard(found: EventAccumulator) -> Curves:
    return {name: {each.step: each.value for each in found.Scalars(name)} for name in found.Tags()["scalars"]}


@pytest.mark.parametrize("arm", ARMS)
def test_tensorboard_has_every_figure_and_picture(live: Path, arm: str) -> None:
    run, found = live / arm / "seed-1", events(live / "logs" / "tensorboard" / arm / "seed-1")
    expected = truth(run)
    assert len(expected["loss/generator"]) == 8 and len(expected["score"]) == 3
    assert_same(of_tensorboard(found), expected)
    clock = {each.step: each.wall_time for each in found.Scalars("t_s")}
    for step, t_s in expected["t_s"].items():
        assert clock[step] - clock[1] == pytest.approx(t_s - expected["t_s"][1], abs=1e-5)
    for picture in found.Images("images"):
        shown = Image.open(io.BytesIO(picture.encoded_image_string))
        with Image.open(run / "images" / f"step-{picture.step:06d}.png") as kept:
            assert np.array_equal(np.asarray(shown), np.asarray(kept.convert("RGB")))
    assert {p.step for p in found.Images("images")} == set(expected["score"])


@pytest.mark.parametrize("arm", ARMS)
def test_mlflow_has_every_figure_picture_and_setting(live: Path, arm: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{live / 'logs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("logged")
    assert experiment is not None
    (run,) = (
        each for each in client.search_runs([experiment.experiment_id]) if each.info.run_name == f"{arm}/seed-1"
    )
    names = list(run.data.metrics)
    found = {name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)} for name in names}
    assert_same(found, truth(live / arm / "seed-1"))
    assert run.info.status == "FINISHED" and run.data.tags["status"] == "finished"
    spec = yaml.safe_load((live / arm / "seed-1" / "spec.yaml").read_text())
    settings = run.data.params
    assert settings["algorithm.name"] == spec["algorithm"]["name"] and settings["seed"] == "1"
    assert settings["task.width"] == "4" and settings["optimizer.learning_rate"] == str(
        spec["optimizer"]["learning_rate"]
    )
    kept = sorted((live / arm / "seed-1" / "images").iterdir())
    place = Path(client.download_artifacts(run.info.run_id, "images", str(tmp_path)))
    assert [path.read_bytes() for path in sorted(place.iterdir())] == [path.read_bytes() for path in kept]


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of an offline run, in LevelDB's log format: fragments in blocks of 32 KiB, each with a checksum.

    wandb 0.31 has no reader in Python any more.
    """
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = 7, []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too little for a fragment's head: zeros
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts.append(data[at + 7 : at + 7 + size])
        at += 7 + size
        if kind in (1, 4):  # whole, or the last of several
            yield b"".join(parts)
            parts = []
    assert not parts


def of_wandb(folder: Path) -> dict[str, tuple[Curves, dict[str, Any]]]:
    """Figures and settings by run, from the files that `wandb sync` would send."""
    found: dict[str, tuple[Curves, dict[str, Any]]] = {}
    for file in folder.glob("offline-run-*/run-*.wandb"):
        curves: Curves = {}
        settings: dict[str, Any] = {}
        name = ""
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
                settings = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.WhichOneof("record_type") == "history":
                row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                for key, value in row.items():
                    if not key.startswith(("_", "images/")) and key != "step":
                        curves.setdefault(key, {})[row["step"]] = value
        found[name] = (curves, settings)
    return found


def test_wandb_has_every_figure_and_setting_without_a_network(live: Path) -> None:
    found = of_wandb(live / "logs" / "wandb")
    assert set(found) == {f"{arm}/seed-1" for arm in ARMS}
    for arm in ARMS:
        curves, settings = found[f"{arm}/seed-1"]
        expected = truth(live / arm / "seed-1")
        times = curves.pop("t_s")
        assert_same(curves, {name: values for name, values in expected.items() if name != "t_s"})
        assert all(times[step] == pytest.approx(t_s, abs=1e-3) for step, t_s in expected["t_s"].items())
        assert settings["algorithm.name"] == SPEC["arms"][arm]["algorithm"]["name"] and settings["nodes"] == 3
    assert len(list((live / "logs" / "wandb").glob("offline-run-*/files/media/images/*.png"))) == 6


def test_a_run_that_has_ended_is_logged_as_one_that_is_under_way(live: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    command("compare", written(tmp_path), "--out", folder)
    said = command("log", folder, "--to", "tensorboard")
    assert f"logged: tensorboard --logdir {folder}/logs/tensorboard" in said
    for arm in ARMS:
        found = events(folder / "logs" / "tensorboard" / arm / "seed-1")
        assert_same(of_tensorboard(found), truth(folder / arm / "seed-1"))
        assert {p.step for p in found.Images("images")} == set(truth(live / arm / "seed-1")["score"])
    again = command("log", folder, "--to", "tensorboard", status=1)
    assert "has events already, which would be mixed: remove it to log the run again" in again
    single = folder / "gossip" / "seed-1"
    command("log", single, "--to", "tensorboard")
    found = events(single / "logs" / "tensorboard" / "gossip" / "seed-1")
    assert_same(of_tensorboard(found), truth(single))


def test_a_tracker_that_fails_is_told_once_and_ends_no_run(tmp_path: Path) -> None:
    said = command(
        "run", written(tmp_path), "--arm", "gossip", "--out", tmp_path / "out", "--log", "mlflow,tensorboard",
        env={"MLFLOW_TRACKING_URI": "nosuch://place"},
    )  # fmt: skip
    assert said.count("mlflow: gossip/seed-1 is not logged further, and training continues:") == 1
    assert "logged: tensorboard" in said
    run = tmp_path / "out" / "gossip" / "seed-1"
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert_same(of_tensorboard(events(tmp_path / "out" / "logs" / "tensorboard" / "gossip" / "seed-1")), truth(run))


def test_a_missing_package_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    spec = written(tmp_path)
    for words in (("compare", spec, "--out", tmp_path / "out", "--log", "wandb"), ("log", tmp_path, "--to", "wandb")):
        said = command(*words, status=2)
        assert "wandb needs wandb: pip install 'gannet-testbed[wandb]'" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker(tmp_path: Path) -> None:
    said = command("run", written(tmp_path), "--arm", "alone", "--log", "comet", status=2)
    assert "--log comet: one of tensorboard, wandb, mlflow" in said
