"""Finds the common mistakes in a task before it is trained: shapes, random numbers, state, gradients, scores.

`check` builds the task several times, as a node does and as the scorer does, and takes some gradients. Each finding
has a name, says what is wrong, and how to fix it. Where one mistake would cause another, only the first is reported.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from gannet.node.plugins import Finding
from gannet.node.tasks.base import Gradient
from gannet.node.tasks.custom.check_gradient import left_out, wrong_sign
from gannet.node.tasks.custom.check_layout import gradient_mistakes, layout_mistakes
from gannet.node.tasks.custom.check_scores import score_mistakes
from gannet.node.tasks.custom.findings import Make, same_bits

__all__ = ["Finding", "Make", "check"]

_CALLS = 3


def check(make: Make) -> list[Finding]:
    """All findings, the gravest first; empty: none of these mistakes was found."""
    for stage in (_layout, _random, _gradient, _state):
        if findings := list(stage(make)):
            return findings
    return [*left_out(make(0)), *wrong_sign(make(0)), *score_mistakes(make)]


def _layout(make: Make) -> Iterator[Finding]:
    task = make(0)
    yield from layout_mistakes(task)
    scored = make(0, training=False)
    if (scored.layout, scored.size) != (task.layout, task.size):
        yield Finding(
            "layout-differs",
            f"built to score, the task has {scored.size} values in x, and built to train {task.size}, or other names",
            "let networks and sizes depend on settings and on context.image_shape only, not on rank, shard or batch",
        )


def _random(make: Make) -> Iterator[Finding]:
    """x_0 and the first gradients of two builds, with other global random numbers and with the same."""
    first, apart, alike = (_told(make, seed) for seed in (1, 2, 1))
    if not all(same_bits(a, b) for a, b in zip(first.values, apart.values, strict=True)):
        if all(same_bits(a, b) for a, b in zip(first.values, alike.values, strict=True)):
            yield _global(f"x_0 or the gradient changes with {first.moved or 'global random numbers'}")
        else:
            yield Finding(
                "not-deterministic",
                "two builds with one seed give other bits in x_0 or in the first gradients",
                "take every random number from the task's own stream (noise(), or random_stream(seed, 1, rank)), "
                "nothing from the clock, from id() or from the order of a set",
            )
        return
    if first.moved:
        yield _global(f"building or a gradient moves {first.moved}")
    other = make(1)
    if not same_bits(make(0).initial(), other.initial()):
        yield Finding(
            "initial-by-rank",
            "x_0 is another on rank 1 than on rank 0: nodes would average what does not belong together",
            "let initial() depend on the seed alone: random_stream(seed, …) without the rank",
        )
        return
    x, task = other.initial(), make(0)
    drawn, others = ([each.gradient(x.clone()).field for _ in range(_CALLS)] for each in (task, other))
    if not same_bits(drawn[0], drawn[1]) and all(same_bits(a, b) for a, b in zip(drawn, others, strict=True)):
        yield Finding(
            "same-stream",
            "gradients are random, and rank 1 draws what rank 0 draws: more nodes would learn nothing more",
            "put the rank into the stream of minibatches: random_stream(seed, 1, rank)",
        )


def _global(what: str) -> Finding:
    return Finding(
        "global-random",
        what,
        "nodes may share a process: draw from the task's own stream (noise(), or generator=random_stream(…)), "
        "also in modules such as dropout",
    )


class _Told:
    """x_0 and the first gradients of a build, and which global streams moved."""

    def __init__(self, values: list[Tensor], moved: str) -> None:
        self.values, self.moved = values, moved


def _told(make: Make, seed: int) -> _Told:
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = _streams()
        task = make(0)
        values = [task.initial()]
        for _ in range(_CALLS):
            values.append(task.gradient(values[0].clone()).field.clone())
        moved = [name for name, state in _streams().items() if state != before[name]]
        return _Told(values, " and ".join(moved))
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def _streams() -> dict[str, object]:
    return {
        "torch's global random numbers": torch.get_rng_state().numpy().tobytes(),
        "NumPy's global random numbers": repr(np.random.get_state()),
        "Python's global random numbers": random.getstate(),
    }


def _gradient(make: Make) -> Iterator[Finding]:
    """Check the result of one gradient, and whether it shares memory with x or with the next one."""
    if findings := list(gradient_mistakes(make(0))):
        yield from findings
        return
    task = make(0)
    x = task.initial()
    given = x.clone()
    first = task.gradient(given)
    kept = _copy(first)
    given.fill_(torch.nan)  # what an algorithm may do with its own tensor
    if not _equal(first, kept):
        yield Finding(
            "keeps-x", "the gradient or the buffers share memory with x: they changed when x did", "return copies"
        )
        return
    second = task.gradient(x.clone())
    if not _equal(first, kept):
        yield Finding(
            "reused-memory",
            "the next gradient overwrote the field or the buffers of the one before, which algorithms still hold",
            "return a copy: gannet.node.tasks.base.fetch(tensor, x.device), or .clone()",
        )
        return
    other = make(0)
    other.gradient(x.clone())
    if not _equal(other.gradient(x.clone()), second):
        yield Finding(
            "keeps-x",
            "the second gradient depends on what became of the first x: the task holds a reference to it",
            "copy x in (FlatModel.load does), and keep nothing of it",
        )


def _state(make: Make) -> Iterator[Finding]:
    """A task that loads another's state must continue as that one does."""
    task = make(0)
    x = task.initial()
    for _ in range(_CALLS):
        task.gradient(x.clone())
    state: Mapping[str, Tensor] = {name: value.clone() for name, value in task.state().items()}
    expected = [task.gradient(x.clone()) for _ in range(_CALLS)]
    for words, restored in (("a new build", make(0)), ("the task itself", task)):
        restored.load_state(state)
        if not all(_equal(restored.gradient(x.clone()), each) for each in expected):
            yield Finding(
                "state-incomplete",
                f"{words}, restored to a state, continues with gradients other than those that followed it",
                "let state() hold all that a gradient depends on besides x: streams, counters, memories",
            )
            return


def _copy(g: Gradient) -> Gradient:
    return g._replace(field=g.field.clone(), buffers=None if g.buffers is None else g.buffers.clone())


def _equal(a: Gradient, b: Gradient) -> bool:
    return a.active == b.active and same_bits(a.field, b.field) and _same_buffers(a.buffers, b.buffers)


def _same_buffers(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else same_bits(a, b)
