"""An ONNX file computes what PyTorch does, for any number of inputs: every network, or a refusal in one line."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import yaml
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.ledger.snapshots import Snapshot
from gannet.node.data.config import DataConfig
from gannet.node.plugins import with_source
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import AnyTask, random_stream
from gannet.node.tasks.config import TaskSetting
from gannet.node.tasks.gan.task import GanTask
from gannet.node.tasks.kdgan.task import KdganTask
from gannet.trained.export import export

NUMBERS = (1, 2, 8)
CLOSE = 1e-6

GANS = [
    {"architecture": architecture, "loss": loss, "classes": classes, **norm}
    for architecture in ("small", "dcgan", "resnet", "sagan")
    for loss in ("wgan-gp", "hinge", "non-saturating")
    for classes in (None, 3)
    for norm in ({}, {"batch_norm_buffers": "absent"}, {"generator_norm": "none"})
    if not (architecture == "sagan" and loss != "hinge")
    if classes is None or (architecture != "small" and "generator_norm" not in norm)
]


def finished(folder: Path, setting: dict[str, Any]) -> tuple[AnyTask, Tensor]:
    """A run's folder with one snapshot of two nodes; the run's task, and the mean of the two."""
    parsed: TaskSetting = TypeAdapter(TaskSetting).validate_python(setting)
    task, random = build_sampler(parsed, DataConfig()), random_stream(1)
    (folder / "spec.yaml").write_text(yaml.safe_dump({"task": setting, "algorithm": {"name": "local"}}))
    inside = folder / "snapshots" / "step-000010"
    inside.mkdir(parents=True)
    states = [task.initial() + 0.05 * torch.randn(task.size, generator=random) for _ in range(2)]
    for rank, x in enumerate(states):
        x[task.buffers] = x[task.buffers].abs() + 0.1  # running variances
        save_file({"x": x}, inside / f"node-{rank}.safetensors", {"step": "10", "t_s": "1.0", "bytes": "0"})
    return task, torch.stack(states).mean(0)


def computed(file: Path, inputs: Mapping[str, Tensor]) -> Tensor:
    """What onnxruntime makes of them: the file alone, in a folder of its own, has all that it takes."""
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return torch.from_numpy(found)


def name_of(setting: Mapping[str, Any]) -> str:
    return "-".join(str(value) for value in setting.values())


@pytest.mark.parametrize("setting", GANS, ids=name_of)
def test_a_generator_makes_the_same_images_for_any_number_of_noise_vectors(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    task, mean = finished(tmp_path, {"width": 4, "latent": 5, **setting})
    assert isinstance(task, GanTask)
    file = tmp_path / "alone" / "g.onnx"
    export(tmp_path, file)
    assert [path.name for path in file.parent.iterdir()] == ["g.onnx"]
    for n in NUMBERS:
        noise = torch.randn(n, 5, generator=random_stream(7, 2))  # the stream of GanTask.generate
        labels = {} if setting["classes"] is None else {"labels": torch.arange(n) % 3}
        found = computed(file, {"noise": noise, **labels})
        if setting.get("batch_norm_buffers") != "absent":
            torch.testing.assert_close(found, task.generate(mean, n, seed=7), rtol=0, atol=CLOSE)
            continue
        # A chain of layers that normalise what they see: PyTorch itself is up to 7e-6 from what doubles give.
        task.model.load(mean)
        with torch.no_grad():
            exact = deepcopy(task.generator).double().eval()(noise.double(), *labels.values())
        torch.testing.assert_close(found, exact.float(), rtol=0, atol=3 * CLOSE)


@pytest.mark.parametrize("setting", GANS, ids=name_of)
def test_a_discriminator_gives_the_same_scores(tmp_path: Path, setting: dict[str, Any]) -> None:
    task, mean = finished(tmp_path, {"width": 4, "latent": 5, **setting})
    assert isinstance(task, GanTask)
    export(tmp_path, tmp_path / "d.onnx", "discriminator")
    task.model.load(mean)
    for n in NUMBERS:
        images = torch.rand(n, 1, 28, 28, generator=random_stream(n)) * 2 - 1
        labels = () if setting["classes"] is None else (torch.arange(n) % 3,)
        with torch.no_grad():
            wanted = task.critic.eval()(images, *labels)
        found = computed(tmp_path / "d.onnx", {"images": images, **dict(zip(["labels"], labels, strict=False))})
        torch.testing.assert_close(found, wanted, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("player", ["classifier", "teacher", "discriminator"])
@pytest.mark.parametrize("networks", [("mlp", "lenet"), ("lenet", "mlp")])
def test_kdgans_players_give_the_same_logits(tmp_path: Path, player: str, networks: tuple[str, str]) -> None:
    sizes = {"hidden": 12, "filters": 3, "features": 7, "dropout": 0.5}
    task, mean = finished(tmp_path, {"name": "kdgan", **sizes, "classifier": networks[0], "teacher": networks[1]})
    assert isinstance(task, KdganTask)
    export(tmp_path, tmp_path / "p.onnx", player)
    for n in NUMBERS:
        images = torch.randint(0, 256, (n, 1, 28, 28), generator=random_stream(n), dtype=torch.uint8)
        found = computed(tmp_path / "p.onnx", {"images": images.float() / 255})
        torch.testing.assert_close(found, task.logits(mean, images, player), rtol=CLOSE, atol=CLOSE)


def test_a_moving_average_is_what_a_run_exports(tmp_path: Path) -> None:
    chosen = ["task.ema=0.9", "task.width=4", "stop.steps=6", "snapshot_every=6", "score=null", "fabric=virtual"]
    arguments = [word for each in [*chosen, "nodes=2", "stop.seconds=null"] for word in ("--set", each)]
    out = tmp_path / "run"
    done = CliRunner().invoke(app, ["run", "demo", "--arm", "gossip", "--out", str(out), *arguments])
    assert done.exit_code == 0, done.output
    (run,) = out.glob("gossip/seed-*")
    export(run, tmp_path / "g.onnx")
    spec = yaml.safe_load((run / "spec.yaml").read_text())
    setting: TaskSetting = TypeAdapter(TaskSetting).validate_python(spec["task"])
    task = build_sampler(setting, DataConfig())
    assert isinstance(task, GanTask)
    served = Snapshot.read_header(run / "snapshots" / "step-000006").nodes()
    noise = torch.randn(3, task.config.latent, generator=random_stream(5, 2))
    wanted = task.generate(torch.stack(list(served.values())).mean(0), 3, seed=5)
    torch.testing.assert_close(computed(tmp_path / "g.onnx", {"noise": noise}), wanted, rtol=0, atol=CLOSE)


OWN = """
import torch
from torch import nn
from gannet import Task

class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 1))
    def forward(self, pictures, weight=2.0, *, scale=None):
        return self.layers(pictures.flatten(1)) * weight

class Sizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 2)
    def forward(self, pictures):
        return self.layer(pictures.flatten(1)) * len(pictures)

class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 2)
    def forward(self, pictures):
        return self.layer(pictures.flatten(1) + torch.randn_like(pictures).flatten(1))

class Own(Task):
    def networks(self):
        self.maker = nn.Sequential(nn.Linear(3, 784), nn.BatchNorm1d(784), nn.Tanh())
        norm = nn.utils.parametrizations.spectral_norm
        self.normed = nn.Sequential(nn.Flatten(), norm(nn.Linear(784, 4)), nn.ReLU(), nn.Linear(4, 1))
        self.critic, self.sizes, self.draws = Critic(), Sizes(), Draws()
        self.parts = nn.ModuleList([nn.Linear(784, 1)])
        return {"maker": self.maker, "critic": self.critic, "sizes": self.sizes, "draws": self.draws,
                "parts": self.parts, "normed": self.normed}

    def losses(self, batch):
        made = self.maker(self.noise(len(batch.images), 3))
        seen = [self.critic(batch.images, weight=2.0), self.sizes(batch.images), self.draws(batch.images),
                self.parts[0](batch.images.flatten(1)), self.normed(batch.images)]
        names = ("critic", "sizes", "draws", "parts", "normed")
        return {"maker": self.critic(made).mean(), **{name: s.mean() for name, s in zip(names, seen)}}
"""


def own(folder: Path) -> tuple[AnyTask, Tensor]:
    return finished(folder, with_source({"name": "python", "file": "own.py"}, OWN))


@pytest.mark.parametrize(
    ("player", "name", "shape"),
    [("maker", "input", (3,)), ("critic", "pictures", (1, 28, 28)), ("normed", "input", (1, 28, 28))],
)
def test_an_own_tasks_player_takes_what_its_forward_takes(
    tmp_path: Path, player: str, name: str, shape: tuple[int, ...]
) -> None:
    task, mean = own(tmp_path)
    export(tmp_path, tmp_path / "p.onnx", player)
    task.model.load(mean)  # type: ignore[attr-defined]
    network = task.model.networks[player].eval()  # type: ignore[attr-defined]
    for n in NUMBERS if player != "critic" else (2, 8):  # the critic normalises its minibatch, which one image is not
        given = torch.randn(n, *shape, generator=random_stream(n))
        with torch.no_grad():
            wanted = network(given)
        torch.testing.assert_close(computed(tmp_path / "p.onnx", {name: given}), wanted, rtol=0, atol=3 * CLOSE)


def test_the_generator_of_the_mixture_is_exported(tmp_path: Path) -> None:
    task, mean = finished(tmp_path, {"name": "mixture", "width": 8, "latent": 4})
    for player, width in (("generator", 4), ("discriminator", 2)):
        export(tmp_path, tmp_path / "p.onnx", player)
        task.model.load(mean)  # type: ignore[attr-defined]
        given = torch.randn(5, width, generator=random_stream(3))
        with torch.no_grad():
            wanted = task.model.networks[player](given)  # type: ignore[attr-defined]
        torch.testing.assert_close(computed(tmp_path / "p.onnx", {"input": given}), wanted, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize(
    ("player", "message"),
    [
        ("sizes", "its ONNX file is wrong for 1 input"),
        ("draws", "it draws random numbers itself (RandomNormalLike)"),
        ("parts", "its module is not called as a whole"),
    ],
)
def test_what_no_file_can_hold_is_refused_in_one_line(tmp_path: Path, player: str, message: str) -> None:
    own(tmp_path)
    to = tmp_path / "p.onnx"
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--to", str(to), "--player", player])
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.splitlines()) == 1
    assert not to.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_a_game_has_no_network(tmp_path: Path) -> None:
    finished(tmp_path, {"name": "game", "dimension": 3})
    with pytest.raises(ValueError, match="task game has no network for ONNX"):
        export(tmp_path, tmp_path / "g.onnx")
    assert export(tmp_path, tmp_path / "g.safetensors").player == "generator"
