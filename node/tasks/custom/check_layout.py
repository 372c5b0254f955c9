"""Checks of a task's shapes: where what lies in x, what x_0 is, and what a gradient holds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.plugins import Finding
from gannet.node.tasks.base import AnyTask, FlatModel, Gradient
from gannet.node.tasks.custom.findings import same_bits


def layout_mistakes(task: AnyTask) -> Iterator[Finding]:
    """The layout fills x without gap, each tensor in its player's slice; x_0 fits, and is finite."""
    end = 0
    for spec in sorted(task.layout, key=lambda spec: spec.start):
        where = task.buffers if spec.player == BUFFERS else task.players.get(spec.player)
        inside = where is not None and where.start <= spec.place.start and spec.place.stop <= where.stop
        if spec.start != end or not inside:
            yield Finding(
                "layout",
                f"{spec.name} lies at {spec.place.start} to {spec.place.stop} of x, where {end} was next and player "
                f"{spec.player} has {where}",
                "let the layout's tensors follow each other without gap, inside their player's slice; FlatModel does",
            )
            return
        end = spec.place.stop
    parts = [*task.players.values(), task.buffers]
    covered = sum(part.stop - part.start for part in parts)
    if (end, covered) != (task.size, task.size) or task.buffers.stop not in (task.size, task.buffers.start):
        yield Finding(
            "layout",
            f"size is {task.size}, but the layout ends at {end}, and players and buffers hold {covered} values",
            "size is the number of all values: the players', then the buffers'; FlatModel counts them",
        )
        return
    x = task.initial()
    if tuple(x.shape) != (task.size,) or x.dtype != torch.float32 or x.device.type != "cpu":
        yield Finding(
            "initial",
            f"initial() gives {x.dtype} {tuple(x.shape)} on {x.device}, not float32 ({task.size},) on the CPU",
            "return one flat float32 tensor of all values, on the CPU",
        )
    elif not torch.isfinite(x).all():
        yield Finding("initial", "initial() has values that are not finite", "fill every parameter and buffer")


def gradient_mistakes(task: AnyTask) -> Iterator[Finding]:
    """Check the first gradient of a fresh task, and its side effects on x and on the task's modules."""
    x = task.initial()
    given = x.clone()
    g = task.gradient(given)
    if not same_bits(x, given):
        yield Finding("changes-x", "gradient(x) writes into x", "copy x in (FlatModel.load does), and leave it alone")
        return
    length = task.size - (task.buffers.stop - task.buffers.start)
    if tuple(g.field.shape) != (length,) or g.field.dtype != torch.float32:
        yield Finding(
            "field",
            f"the field is {g.field.dtype} {tuple(g.field.shape)}, not float32 ({length},)",
            "one float32 entry for each parameter, in the order of the layout, none for buffers",
        )
        return
    if unknown := sorted(set(g.active) - set(task.players)):
        yield Finding("active", f"active names {unknown[0]!r}, which is no player", f"use {', '.join(task.players)}")
        return
    idle = [name for name in task.players if name not in g.active and bool(g.field[task.players[name]].any())]
    if idle:
        yield Finding(
            "active",
            f"{idle[0]} has a gradient and is not among the active players: it would never be used",
            "name it in active, or leave its part of the field zero",
        )
    if absent := sorted(set(g.active) - set(g.losses)):
        yield Finding("losses", f"there is no loss of {absent[0]}", "report each active player's own loss")
        return
    if not torch.isfinite(g.field).all() or not all(_finite(loss) for loss in g.losses.values()):
        yield Finding(
            "not-finite",
            f"the first gradient or loss is not finite (losses {g.losses})",
            "look for log(0), a division by 0 or a root at 0; torch.autograd.set_detect_anomaly(True) names the line",
        )
        return
    yield from _buffer_mistakes(task, g)


def _finite(value: float) -> bool:
    """Whether it is a number."""
    return bool(torch.isfinite(torch.tensor(float(value))))


def _buffer_mistakes(task: AnyTask, g: Gradient) -> Iterator[Finding]:
    count = task.buffers.stop - task.buffers.start
    if count and (g.buffers is None or tuple(g.buffers.shape) != (count,) or g.buffers.dtype != torch.float32):
        got = "None" if g.buffers is None else f"{g.buffers.dtype} {tuple(g.buffers.shape)}"
        yield Finding(
            "buffers",
            f"the task has {count} values of buffers, and the gradient returns {got}",
            "return the buffers as the forward pass left them, float32, in the order of the layout",
        )
        return
    tensors = {(name, path): b for name, module in modules(task).items() for path, b in module.named_buffers()}
    held = storages(task)
    hidden: dict[str, Tensor] = {}
    for (name, path), buffer in tensors.items():
        spec = next((spec for spec in task.layout if spec.player == BUFFERS and _is(spec, path, buffer)), None)
        if spec is None:
            if buffer.untyped_storage().data_ptr() not in held:
                hidden[f"{name}.{path}"] = buffer
            continue
        assert g.buffers is not None  # the task has this one
        place = slice(spec.place.start - task.buffers.start, spec.place.stop - task.buffers.start)
        if not torch.equal(g.buffers[place].view(spec.shape), buffer.detach().cpu()):
            yield Finding(
                "in-place-buffer",
                f"the forward pass changed {name}.{path} in place, and the gradient returns its old values",
                "return the buffers after the forward pass: FlatModel.values[task.buffers], copied",
            )
            return
    before = {name: buffer.detach().clone() for name, buffer in hidden.items()}
    task.gradient(task.initial())
    if moved := [name for name, buffer in hidden.items() if not torch.equal(buffer, before[name])]:
        yield Finding(
            "hidden-buffer",
            f"{moved[0]} changes with each gradient and is not in x: it is neither sent nor saved",
            "put its module into networks(), or use a layer without running statistics",
        )


def _is(spec: TensorSpec, path: str, tensor: Tensor) -> bool:
    """Whether the module's tensor at `path` is the one that the layout means."""
    return spec.name.endswith(f".{path}") and spec.shape == tuple(tensor.shape)


def modules(task: AnyTask) -> dict[str, nn.Module]:
    """The modules that are attributes of the task, or in a list or dict that is."""
    found: dict[str, nn.Module] = {}
    for name, value in vars(task).items():
        inner = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        for key, item in [("", value), *(inner.items() if isinstance(inner, dict) else ())]:
            if isinstance(item, nn.Module) and all(item is not known for known in found.values()):
                found[f"{name}.{key}" if key != "" else name] = item
    return found


def storages(task: AnyTask) -> set[int]:
    """Where the flat vectors of the task's models lie."""
    return {v.values.untyped_storage().data_ptr() for v in vars(task).values() if isinstance(v, FlatModel)}
