"""What a task says of itself: counts by hand, FLOPs by a formula and by torch's own counter, plans without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from gannet.cli.main import app
from gannet.experiment.task_cost import Flops, cost_of, dry_task, gradient_cost
from gannet.node.tasks.base import Gradient
from gannet.spec.load import load_spec
from gannet.spec.run_spec import RunSpec

RUN = {"nodes": 4, "links": "datacenter", "algorithm": {"name": "dp-oadam"}, "stop": {"steps": 1}}
CIFAR = {"name": "cifar10", "root": "nowhere"}


def spec_of(**changes: Any) -> RunSpec:
    return RunSpec.model_validate(RUN | changes)


def test_flops_of_a_convolution_and_its_gradients_are_the_formulas() -> None:
    """Forward 2·n·C_out·H·W·C_in·k²; as much for the gradient of the weight, and of the input where it is wanted."""
    layer, images = nn.Conv2d(3, 8, 5, padding=2), torch.zeros(4, 3, 10, 12)
    forward = 2 * 4 * 8 * 10 * 12 * 3 * 5 * 5
    with Flops() as counter:
        made = layer(images)
    assert counter.total == forward
    with Flops() as counter:
        made.sum().backward()
    assert counter.total == forward
    with Flops() as counter:
        layer(images.requires_grad_()).sum().backward()
    assert counter.total == 3 * forward


class OneConvolution:
    """A task whose gradient is that of a convolution's weight, for the sum of its outputs."""

    def __init__(self) -> None:
        self.layer, self.images = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.zeros(5, 3, 16, 16)

    def initial(self) -> Tensor:
        return torch.zeros(216)

    def gradient(self, x: Tensor) -> Gradient:
        self.layer(self.images).relu().sum().backward()
        return Gradient(torch.zeros(216), (), None, {})


def test_a_gradients_flops_and_what_it_keeps_are_known_by_hand() -> None:
    flops, kept = gradient_cost(OneConvolution(), calls=3)  # type: ignore[arg-type]
    assert flops == 2 * (2 * 5 * 8 * 16 * 16 * 27)
    assert kept == 4 * (5 * 3 * 16 * 16 + 216 + 5 * 8 * 16 * 16)  # input, weight, the ReLU's result


@pytest.mark.parametrize(
    "task",
    [
        {"loss": "hinge", "width": 4},
        {"architecture": "dcgan", "loss": "hinge", "width": 4},
        {"architecture": "sagan", "loss": "hinge", "width": 8},
    ],
)
def test_the_dry_gradient_counts_what_torch_counts_in_a_real_one(task: dict[str, Any]) -> None:
    from gannet.node.data.shard import Shard
    from gannet.node.tasks import build_task

    spec = spec_of(task=task, data=CIFAR | {"image_size": 16}, batch=3)
    shard = Shard(torch.zeros(9, 3, 16, 16, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64))
    real = build_task(spec.task, shard, 0, 4, 1, 3)
    with FlopCounterMode(display=False) as counter:
        real.gradient(real.initial())
    flops, kept = gradient_cost(dry_task(spec))
    assert flops == counter.get_total_flops() > 0
    assert kept > 0


def test_a_gradient_penalty_is_counted_too() -> None:
    """Of WGAN-GP: beyond the same networks without a penalty, a pass of the critic and its derivatives, twice."""
    task = {"architecture": "resnet", "width": 8}
    without, penalised = (
        cost_of(spec_of(task=task | {"loss": loss}, data=CIFAR, batch=4)).flops
        for loss in ("non-saturating", "wgan-gp")
    )
    assert 1.3 * without < penalised < 3 * without


def test_the_generators_share_is_spread_over_the_critics_steps() -> None:
    one, five = (cost_of(spec_of(task={"critic_steps": steps}, batch=4)).flops for steps in (1, 5))
    dry = dry_task(spec_of(task={"critic_steps": 5}, batch=4))
    x = dry.initial().to("meta")
    each = []
    for _ in range(5):
        with Flops() as counter:
            dry.gradient(x)
        each.append(counter.total)
    assert each[:4] == [each[0]] * 4 and each[4] == one > each[0]
    assert five == pytest.approx((4 * each[0] + one) / 5)


def test_bytes_and_state_are_the_formulas() -> None:
    cost = cost_of(spec_of())
    assert cost.players == {"generator": 133_825, "discriminator": 94_945} and cost.buffers == 192
    assert cost.sent_bytes == cost.busiest_bytes == 2 * 4 * (133_825 + 94_945 + 192)  # to both neighbours
    assert cost.state_bytes == 4 * (2 * (228_770 + 192) + 4 * 228_770)
    assert cost_of(spec_of(codec="fp16")).sent_bytes == cost.sent_bytes / 2
    assert cost_of(spec_of(algorithm={"name": "dp-oadam", "every": 4})).sent_bytes == cost.sent_bytes / 4
    server = cost_of(spec_of(algorithm={"name": "cp-oadam", "collective": "server"}))
    assert server.busiest_bytes == 3 * 4 * 228_962 and server.sent_bytes == 6 / 4 * 4 * 228_962
    assert cost_of(spec_of(algorithm={"name": "local"})).sent_bytes == 0
    averaged = cost_of(spec_of(task={"ema": 0.999}))
    assert averaged.sent_bytes == cost.sent_bytes, "a moving average stays at home"


def invoke(*argv: str) -> str:
    done = CliRunner().invoke(app, list(argv), env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output


def test_task_show_names_every_kind() -> None:
    said = invoke("task", "show")
    for words in ("1,204,483", "1,053,825", "4,276,739", "3,576,704", "2,765,568", "18.081", "game"):
        assert words in said
    assert "9.04" in invoke("task", "show", "resnet", "--set", "codec=fp16")


def test_task_show_of_nothing_known_says_what_there_is() -> None:
    done = CliRunner().invoke(app, ["task", "show", "biggan"])
    assert done.exit_code == 2 and "sagan" in done.output and "wgan-gp-cifar10" in done.output


def test_papers_specs_are_checked_without_data_or_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, generator in (("wgan-gp-cifar10", "1,204,483"), ("sngan-cifar10", "4,276,739")):
        said = invoke("run", name, "--dry-run", "--set", "data.root=/no/such/folder")
        assert generator in said and "device cuda" in said
        assert ("note: device cuda: this machine has none" in said) is not torch.cuda.is_available()
        assert "500,000 steps (100,000 of the generator)" in said and "down to 0 in 500,000 steps" in said
        spec = load_spec(name).arms["run"]
        assert (spec.batch, spec.task.critic_steps, spec.optimizer.learning_rate) == (64, 5, 2e-4)  # type: ignore[union-attr]
    said = invoke("compare", "cifar10", "--dry-run")
    assert "wgan-gp" in said and "sngan" in said
    assert not any(tmp_path.iterdir()), "a dry run writes nothing"
