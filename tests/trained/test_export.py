"""What `gannet export` writes, loaded by others: safetensors into a plain module, ONNX into onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import random_stream
from gannet.node.tasks.config import KdganConfig, TaskConfig
from gannet.node.tasks.gan.task import GanTask
from gannet.node.tasks.kdgan.networks import Mlp
from gannet.node.tasks.kdgan.task import KdganTask
from gannet.trained.export import export

KDGAN = {"name": "kdgan", "hidden": 12, "filters": 3, "features": 7}


def finished(folder: Path, task: dict[str, Any], nodes: int = 2) -> tuple[Path, Tensor]:
    """A run's folder with two snapshots, and the mean that the last one has."""
    sampler = build_sampler(TaskConfig(**task) if task["name"] == "gan" else KdganConfig(**task), DataConfig())
    spec = {"name": "r", "arm": "a", "task": task, "data": {"name": "fashion-mnist-mini"},
            "algorithm": {"name": "local"}}  # fmt: skip
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    states = []
    for step in (5, 10):
        inside = folder / "snapshots" / f"step-{step:06d}"
        inside.mkdir(parents=True)
        random = random_stream(step)
        states = [sampler.initial() + 0.01 * torch.randn(sampler.size, generator=random) for _ in range(nodes)]
        for rank, x in enumerate(states):
            save_file({"x": x}, inside / f"node-{rank}.safetensors", {"step": str(step), "t_s": "1.0", "bytes": "0"})
    return folder, torch.stack(states).mean(0)


def test_classifier_as_safetensors_loads_into_a_plain_module(tmp_path: Path) -> None:
    folder, mean = finished(tmp_path, KDGAN)
    written = export(folder, tmp_path / "c.safetensors")
    assert (written.player, written.step) == ("classifier", 10)
    plain = Mlp((1, 28, 28), 12, 10)
    plain.load_state_dict(load_file(written.path))
    assert written.parameters == sum(p.numel() for p in plain.parameters())
    task = build_sampler(KdganConfig(**KDGAN), DataConfig())
    assert isinstance(task, KdganTask)
    images = torch.randint(0, 256, (9, 1, 28, 28), generator=random_stream(1), dtype=torch.uint8)
    torch.testing.assert_close(plain(images.float() / 255), task.logits(mean, images))


@pytest.mark.parametrize("player", ["classifier", "teacher"])
def test_onnx_computes_what_torch_does(tmp_path: Path, player: str) -> None:
    folder, mean = finished(tmp_path, KDGAN)
    done = CliRunner().invoke(app, ["export", str(folder), "--to", str(tmp_path / "c.onnx"), "--player", player])
    assert done.exit_code == 0, done.output
    size = (tmp_path / "c.onnx").stat().st_size
    assert f"{player} of step 10" in done.output
    assert f"{size / 1e6:.2f} MB" in done.output
    images = torch.randint(0, 256, (9, 1, 28, 28), generator=random_stream(2), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": (images.float() / 255).numpy()})
    task = build_sampler(KdganConfig(**KDGAN), DataConfig())
    assert isinstance(task, KdganTask)
    torch.testing.assert_close(torch.from_numpy(logits), task.logits(mean, images, player), rtol=1e-5, atol=1e-5)


def test_a_gans_generator_is_exported_with_its_running_statistics(tmp_path: Path) -> None:
    settings = {"name": "gan", "width": 4, "latent": 5}
    folder, mean = finished(tmp_path, settings)
    export(folder, tmp_path / "g.onnx")
    task = build_sampler(TaskConfig(width=4, latent=5), DataConfig())
    assert isinstance(task, GanTask)
    noise = torch.randn(6, 5, generator=random_stream(7, 2))
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    (images,) = session.run(["images"], {"noise": noise.numpy()})
    torch.testing.assert_close(torch.from_numpy(images), task.generate(mean, 6, seed=7), rtol=1e-5, atol=1e-5)
    written = export(folder, tmp_path / "g.safetensors")
    assert {"norm1.running_mean", "norm1.running_var"} <= load_file(written.path).keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--to", "c.pt"], "give a file that ends in .safetensors or .onnx"),
        (["run", "--to", "c.onnx", "--player", "critic"], "this run has classifier, teacher, discriminator"),
        (["nowhere", "--to", "c.onnx"], "give a run's folder"),
        ([".", "--to", "c.onnx"], "is not a single run: give one of its runs, for example"),
    ],
)
def test_a_wrong_request_is_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "kdgan" / "seed-1").mkdir(parents=True)
    finished(tmp_path / "kdgan" / "seed-1", KDGAN)
    (tmp_path / "run").symlink_to(tmp_path / "kdgan" / "seed-1")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize("name", ["c.ONNX", "c.SafeTensors", "new/below/c.onnx"])
def test_the_suffix_may_be_in_capitals_and_folders_above_the_file_are_made(tmp_path: Path, name: str) -> None:
    folder, _ = finished(tmp_path, KDGAN)
    done = CliRunner().invoke(app, ["export", str(folder), "--to", str(tmp_path / name)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / name).stat().st_size > 0


def test_the_last_snapshot_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    folder, mean = finished(tmp_path, KDGAN)
    shots = folder / "snapshots"
    for was, step in (("step-000005", 999_950), ("step-000010", 1_000_000)):
        (shots / was).rename(shots / f"step-{step:06d}")
        for file in (shots / f"step-{step:06d}").iterdir():
            save_file(load_file(file), file, {"step": str(step), "t_s": "1.0", "bytes": "0"})
    (shots / "step-1000050").mkdir()  # a killed run made it, and nothing in it
    written = export(folder, tmp_path / "c.safetensors")
    assert written.step == 1_000_000
    task = build_sampler(KdganConfig(**KDGAN), DataConfig())
    first = task.layout[0]
    torch.testing.assert_close(
        load_file(written.path)[first.name.removeprefix("classifier.")], mean[first.place].view(first.shape)
    )


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "no header", "other tensor"])
def test_a_snapshot_that_is_not_whole_is_named(tmp_path: Path, harm: str) -> None:
    folder, mean = finished(tmp_path, KDGAN)
    file = folder / "snapshots" / "step-000010" / "node-1.safetensors"
    if harm == "no header":
        save_file({"x": mean}, file)
    elif harm == "other tensor":
        save_file({"y": mean}, file, {"step": "10", "t_s": "1.0", "bytes": "0"})
    else:
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a snapshot"}[harm])
    done = CliRunner().invoke(app, ["export", str(folder), "--to", str(tmp_path / "c.safetensors")])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert f"{file}: this is no whole snapshot" in done.output


def test_without_onnx_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = finished(tmp_path, KDGAN)
    monkeypatch.setattr("gannet.trained.onnx_file.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'gannet-testbed\[export\]'"):
        export(folder, tmp_path / "c.onnx")
