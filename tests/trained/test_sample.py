"""`gannet sample`: the pictures are the generator's, at the snapshot and of the class that were asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import random_stream
from gannet.node.tasks.config import MixtureConfig, TaskConfig
from gannet.node.tasks.gan.task import SAMPLING_STREAM, GanTask

GAN = {"name": "gan", "width": 4}


def run_of(folder: Path, task: dict[str, Any] | None = None, steps: tuple[int, ...] = (5, 10)) -> Path:
    """A run's folder with snapshots of two nodes that differ."""
    task = task or GAN
    sampler = build_sampler(TaskConfig(**task), DataConfig())
    spec = {"name": "r", "task": task, "data": {"name": "fashion-mnist-mini"}, "algorithm": {"name": "local"}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    for step in steps:
        inside = folder / "snapshots" / f"step-{step:06d}"
        inside.mkdir(parents=True)
        for rank in (0, 1):
            x = sampler.initial() + 0.05 * torch.randn(sampler.size, generator=random_stream(step, rank))
            save_file({"x": x}, inside / f"node-{rank}.safetensors", {"step": str(step), "t_s": "1.0", "bytes": "0"})
    return folder


def sample(folder: Path, *arguments: object, status: int = 0) -> str:
    line = ["sample", str(folder), "--to", str(folder / "out" / "s.png"), *map(str, arguments)]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, line)
    assert done.exit_code == status, done.output
    return done.output


def pixels(folder: Path) -> np.ndarray:
    with Image.open(folder / "out" / "s.png") as image:
        return np.asarray(image)


def expected(
    folder: Path, step: int, seed: int, n: int, *labels: Tensor, task: dict[str, Any] | None = None
) -> Tensor:
    """Grey bytes (n, 28, 28) by the generator's module itself, at the mean of both nodes."""
    sampler = build_sampler(TaskConfig(**(task or GAN)), DataConfig())
    assert isinstance(sampler, GanTask)
    files = (folder / "snapshots" / f"step-{step:06d}").glob("*.safetensors")
    sampler.model.load(torch.stack([load_file(file)["x"] for file in files]).mean(0))
    noise = torch.randn(n, sampler.config.latent, generator=random_stream(seed, SAMPLING_STREAM))
    with torch.no_grad():
        images = sampler.generator.eval()(noise, *labels)[:, 0]
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def test_images_stand_side_by_side_and_are_the_generators(tmp_path: Path) -> None:
    run_of(tmp_path)
    assert "10 images from step 10" in sample(tmp_path, "-n", 10, "--seed", 7)
    found, images = pixels(tmp_path), expected(tmp_path, 10, 7, 10).numpy()
    assert found.shape == (3 * 29, 4 * 29, 3)
    for number, image in enumerate(images):
        top, left = 29 * (number // 4), 29 * (number % 4)
        for channel in range(3):
            assert np.abs(found[top : top + 28, left : left + 28, channel].astype(int) - image).max() <= 1
    first = found.tobytes()
    sample(tmp_path, "-n", 10, "--seed", 7)
    assert pixels(tmp_path).tobytes() == first
    sample(tmp_path, "-n", 10, "--seed", 8)
    assert pixels(tmp_path).tobytes() != first


def test_one_class_alone(tmp_path: Path) -> None:
    task = {**GAN, "architecture": "dcgan", "classes": 10}
    run_of(tmp_path, task)
    assert "4 images of class 3 from step 10" in sample(tmp_path, "-n", 4, "--class", 3)
    images = expected(tmp_path, 10, 1, 4, torch.full((4,), 3), task=task).numpy().astype(int)
    assert np.abs(pixels(tmp_path)[:28, :28, 0].astype(int) - images[0]).max() <= 1
    assert "this run has classes 0 to 9" in sample(tmp_path, "--class", 10, status=2)


@pytest.mark.parametrize(("step", "found"), [("last", 1_000_000), ("best", 5), ("10", 10)])
def test_the_snapshot_can_be_chosen(tmp_path: Path, step: str, found: int) -> None:
    run_of(tmp_path, steps=(5, 10, 999_999, 1_000_000))
    scores = [(5, 20.0), (10, 30.0), (999_999, 20.0), (1_000_000, None)]
    lines = [json.dumps({"step": at, "t_s": 1.0, "bytes": 0, "score": score}) for at, score in scores]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines) + "\n")
    assert f"from step {found} " in sample(tmp_path, "-n", 1, "--step", step)
    written = CliRunner().invoke(
        app, ["export", str(tmp_path), "--to", str(tmp_path / "g.safetensors"), "--step", step]
    )
    assert f"generator of step {found}:" in written.output
    images = expected(tmp_path, found, 1, 1).numpy().astype(int)
    assert np.abs(pixels(tmp_path)[:28, :28, 0].astype(int) - images[0]).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "7"], "there is no snapshot of step 7; there are those of 5, 10"),
        (["--step", "best"], "has no scores; `gannet score"),
        (["--step", "first"], "give the step of a snapshot, last, or best"),
        (["--class", "0"], "not class-conditional"),
        (["-n", "0"], "from 1 to 10,000 images"),
    ],
)
def test_what_cannot_be_sampled_is_one_error(tmp_path: Path, arguments: list[str], words: str) -> None:
    text = sample(run_of(tmp_path), *arguments, status=2)
    assert text.startswith("gannet: ") and words in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_task_without_images_has_nothing_to_sample(tmp_path: Path) -> None:
    spec = {"task": {"name": "mixture", "modes": "ring-8"}, "algorithm": {"name": "local"}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    sampler = build_sampler(MixtureConfig(name="mixture", modes="ring-8"), DataConfig())
    inside = tmp_path / "snapshots" / "step-000001"
    inside.mkdir(parents=True)
    save_file({"x": sampler.initial()}, inside / "node-0.safetensors", {"step": "1", "t_s": "1.0", "bytes": "0"})
    assert "task mixture generates no images" in sample(tmp_path, status=2)
