"""A trained player as an ONNX file that computes what the player computes in PyTorch, for any number of inputs.

PyTorch's exporter traces one call, and what the call's sizes or values decided stays as it was: so each file is run
by onnxruntime for several numbers of inputs, and one that differs from PyTorch is not kept.
"""

from __future__ import annotations

import inspect
import io
import warnings
from contextlib import redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_split
from gannet.node.tasks import build_sampler, build_task, needs_data
from gannet.node.tasks.base import AnyTask, FlatModel, random_stream
from gannet.node.tasks.config import TaskSetting
from gannet.node.tasks.custom.base import Task
from gannet.node.tasks.gan.task import GENERATOR, GanTask
from gannet.node.tasks.kdgan.task import KdganTask

OPSET = 17
TRIED = (1, 2, 8)
"""Numbers of inputs for which a file is compared with PyTorch; the trace is made with the second."""

TOLERANCE = 1e-4
"""Of the largest output, 1 at least: what sums in another order explain, and a frozen size does not."""

RECORDED_IMAGES = 64
"""Training images read to see how an own task calls its networks."""

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


class Refusal(ValueError):
    """A player that ONNX cannot hold; one line."""


class _Call(NamedTuple):
    """A call of a network: tensors with one row an input, and what the file calls them and the result."""

    network: nn.Module
    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    output: str

    def of(self, n: int) -> tuple[Tensor, ...]:
        """n rows of each tensor."""
        rows = torch.arange(n)
        return tuple(tensor[rows % len(tensor)] for tensor in self.tensors)


def check_packages() -> None:
    """Raises Refusal, with the fix, when a package that this takes is not installed."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise Refusal(
            f"ONNX needs {' and '.join(missing)}: pip install 'gannet-testbed[export]', or export .safetensors"
        )


def write_onnx(setting: TaskSetting, data: DataConfig, x: Tensor, player: str, to: Path) -> None:
    """Write the player at x to one file, for any number of inputs. Raises Refusal.

    Inputs: a GAN's generator has `noise` and, if it knows classes, `labels`; its discriminator `images` and `labels`;
    KDGAN's players `images` in [0, 1]. A player of another task has the parameters of its module's `forward`.
    """
    task = build_sampler(setting, data)
    call = _example(task, setting, data, x, player)
    with torch.no_grad():
        call.network.eval()
        expected = {n: outputs for n in TRIED if (outputs := _outputs(call, n)) is not None}
        if TRIED[1] not in expected:
            raise Refusal(f"--player {player}: its module does not give tensors; export .safetensors instead")
        _simplify(call.network)
        _trace(call, len(expected[TRIED[1]]), player, to)
    _refuse_random_operators(to, player)
    for n, outputs in expected.items():
        _compare(call, n, outputs, player, to)


def _example(task: AnyTask, setting: TaskSetting, data: DataConfig, x: Tensor, player: str) -> _Call:
    n, random = max(TRIED), random_stream(0)
    model = getattr(task, "model", None)
    if not isinstance(model, FlatModel):
        raise Refusal(f"--player {player}: task {setting.name} has no network for ONNX; export .safetensors instead")
    if isinstance(task, Task):
        call = _recorded(task, setting, data, x, player)
        model.load(x)
        return call
    model.load(x)
    pixels, network = torch.rand(n, *data.image_shape, generator=random), model.networks[player]
    if isinstance(task, KdganTask):
        return _Call(network, (pixels,), ("images",), "logits")
    assert isinstance(task, GanTask)
    classes = task.config.classes
    labels = () if classes is None else (torch.arange(n) % classes,)
    names = ("labels",) * len(labels)
    if player == GENERATOR:
        noise = torch.randn(n, task.config.latent, generator=random)
        return _Call(network, (noise, *labels), ("noise", *names), "images")
    return _Call(network, (pixels * 2 - 1, *labels), ("images", *names), "scores")


def _recorded(task: Task, setting: TaskSetting, data: DataConfig, x: Tensor, player: str) -> _Call:
    """The first call of an own task's player, in sample(), losses() or measure()."""
    network = task.model.networks[player]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls:
            copied = {name: _copied(value) for name, value in kwargs.items()}
            calls.append((tuple(_copied(value) for value in args), copied))

    def train() -> None:
        shard = load_split(data, limit=RECORDED_IMAGES) if needs_data(setting) else None
        trained = build_task(setting, shard, 0, 1, 0, max(TRIED))
        assert isinstance(trained, Task)
        trained.model.networks[player].register_forward_pre_hook(record, with_kwargs=True)
        trained.gradient(x)

    hook = network.register_forward_pre_hook(record, with_kwargs=True)
    for attempt in (lambda: task.generate(x, max(TRIED), 0), train, lambda: task.evaluate(x)):
        if not calls:
            with suppress(ValueError, OSError):  # not every task has all three
                attempt()
    hook.remove()
    if not calls:
        raise Refusal(
            f"--player {player}: its module is not called as a whole in sample(), losses() or measure(), so what it "
            "takes is not known; export .safetensors instead"
        )
    bound = _Bound(network, *calls[0])
    tensors = bound.tensors()
    if not tensors or any(t.dim() == 0 or len(t) != len(tensors[0]) for t in tensors):
        raise Refusal(
            f"--player {player}: ONNX wants a module that takes tensors with one row an input; export .safetensors "
            "instead"
        )
    return _Call(bound, tuple(tensors), tuple(bound.names()), "output")


class _Bound(nn.Module):
    """A module as a function of the tensors that it is called with; the call's other arguments stay as they were."""

    def __init__(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.network, self._args, self._kwargs = network, args, kwargs

    def forward(self, *tensors: Tensor) -> Any:
        given = iter(tensors)
        args = [next(given) if isinstance(value, Tensor) else value for value in self._args]
        kwargs = {n: next(given) if isinstance(value, Tensor) else value for n, value in self._kwargs.items()}
        return self.network(*args, **kwargs)

    def tensors(self) -> list[Tensor]:
        values = [*self._args, *self._kwargs.values()]
        return [value for value in values if isinstance(value, Tensor)]

    def names(self) -> list[str]:
        """Of `tensors`, in the module's own words; those of a *parameter are numbered."""
        parameters = list(inspect.signature(self.network.forward).parameters.values())
        fixed = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        more = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "input")
        numbered = [f"{more}_{number}" for number in range(len(self._args) - len(fixed))]
        names = [*[*fixed, *numbered][: len(self._args)], *self._kwargs]
        values = [*self._args, *self._kwargs.values()]
        return [name for name, value in zip(names, values, strict=True) if isinstance(value, Tensor)]


def _copied(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _outputs(call: _Call, n: int) -> tuple[Tensor, ...] | None:
    """What PyTorch computes; None where it refuses so few inputs, or does not give tensors."""
    try:
        found = call.network(*call.of(n))
    except ValueError:  # BatchNorm1d wants two
        return None
    outputs = tuple(found) if isinstance(found, tuple | list) else (found,)
    return outputs if all(isinstance(output, Tensor) for output in outputs) else None


class _BatchStatistics(nn.Module):
    """BatchNorm without running statistics, as plain operators: the exporter knows none for a free batch."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, h: Tensor) -> Tensor:
        where, wide = [0, *range(2, h.dim())], h.double()  # as PyTorch sums them
        mean = wide.mean(where, keepdim=True)
        scale = ((wide - mean).square().mean(where, keepdim=True) + self.eps).rsqrt()
        normal = ((wide - mean) * scale).float()
        if self.weight is None:
            return normal
        shape = (1, -1, *[1] * (h.dim() - 2))
        return normal * self.weight.view(shape) + self.bias.view(shape)


def _simplify(network: nn.Module) -> None:
    """Replace what the exporter cannot write by what computes the same."""
    for module in list(network.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is None:
                setattr(module, name, _BatchStatistics(child))


def _trace(call: _Call, count: int, player: str, to: Path) -> None:
    outputs = [call.output] if count == 1 else [f"{call.output}_{number}" for number in range(count)]
    try:
        # The exporter that needs no further package warns that it is the old one, and prints its graph when it fails.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                call.network,
                call.of(TRIED[1]),
                str(to),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(call.names),
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in (*call.names, *outputs)},
            )
    except OSError:
        raise
    except Exception as error:  # the exporter's are of all kinds
        raise Refusal(
            f"--player {player}: PyTorch cannot write it as ONNX ({_first_line(error)}); export .safetensors instead"
        ) from error


def _refuse_random_operators(file: Path, player: str) -> None:
    """A session would draw the same numbers first, whenever one is opened."""
    import onnx

    found = sorted({node.op_type for node in onnx.load(str(file)).graph.node} & set(_RANDOM))
    if found:
        raise Refusal(
            f"--player {player}: it draws random numbers itself ({', '.join(found)}), which an ONNX file would "
            "repeat in every session; let its forward take them as an input, or export .safetensors"
        )


def _compare(call: _Call, n: int, outputs: tuple[Tensor, ...], player: str, file: Path) -> None:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what it would print is in its errors
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        taken = {each.name for each in session.get_inputs()}  # a tensor that decides nothing is not in the file
        inputs = {name: t.numpy() for name, t in zip(call.names, call.of(n), strict=True) if name in taken}
        computed = session.run(None, inputs)
        wrong = "" if _near(computed, outputs) else "onnxruntime computes something else"
    except Exception as error:  # onnxruntime's have no common base
        wrong = _first_line(error)
    if wrong:
        raise Refusal(
            f"--player {player}: its ONNX file is wrong for {n} {'input' if n == 1 else 'inputs'} ({wrong}): its "
            "forward depends on sizes or values as no file can; export .safetensors instead"
        )


def _near(computed: list[Any], outputs: tuple[Tensor, ...]) -> bool:
    return all(
        tuple(found.shape) == tuple(wanted.shape)
        and torch.from_numpy(found).sub(wanted).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max()))
        for found, wanted in zip(computed, outputs, strict=True)
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
