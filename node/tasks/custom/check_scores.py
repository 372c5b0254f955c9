"""Checks of what scores a task: that it changes nothing, and says the same whenever it is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gannet.node.plugins import Finding, PluginError
from gannet.node.tasks.base import AnyTask, Evaluates, Evaluation
from gannet.node.tasks.custom.base import Task, TaskMistake
from gannet.node.tasks.custom.findings import same_bits

if TYPE_CHECKING:
    from gannet.node.tasks.custom.findings import Make

_IMAGES = 2


def score_mistakes(make: Make) -> Iterator[Finding]:
    """generate() and evaluate(), of the task as the scorer builds it, and while it trains."""
    scored = make(0, training=False)
    x = scored.initial()
    given = x.clone()
    images = scored.generate(given, _IMAGES, 0)
    if images.dim() != 4 or len(images) != _IMAGES or images.device.type != "cpu" or not torch.isfinite(images).all():
        yield Finding(
            "generate",
            f"generate(x, {_IMAGES}, seed) gives {tuple(images.shape)} on {images.device}, or what is not finite",
            "give n images (n, C, H, W) in [-1, 1], on the CPU",
        )
    elif not same_bits(images, scored.generate(given, _IMAGES, 0)):
        yield Finding("generate", "generate() gives other images each time", "draw from random_stream(seed, …)")
    told = _told(scored, given)
    if isinstance(told, Finding):
        yield told
    elif told is not None:
        again = scored.evaluate(given) if isinstance(scored, Evaluates) else told
        if again.score != told.score or again.more != told.more:
            yield Finding(
                "evaluate",
                f"evaluate(x) says {told.score}, and then {again.score}",
                "draw its random numbers from a stream with a fixed seed, and build nothing up",
            )
    if not same_bits(given, x):
        yield Finding("changes-x", "generate() or evaluate() writes into x", "copy x in, and leave it alone")
    elif not _undisturbed(make, x):
        yield Finding(
            "scoring-disturbs",
            "the gradient after generate() is another than without: making images changes the training",
            "let it use a stream of its own, and leave counters alone",
        )


def _told(scored: AnyTask, x: Tensor) -> Evaluation | Finding | None:
    if isinstance(scored, Task) and type(scored).measure is Task.measure:
        return Finding(
            "no-score",
            f"{type(scored).__name__} has no measure(): its runs cannot be scored",
            "write measure(), lower is better; or give the spec score: null",
        )
    if not isinstance(scored, Evaluates):
        return None
    try:
        told = scored.evaluate(x)
    except (TaskMistake, PluginError) as error:
        return Finding("evaluate", str(error), "see measure()")
    figures = [told.score, *told.more.values()] if isinstance(told, Evaluation) else []
    if not figures or not all(isinstance(each, int | float) and math.isfinite(each) for each in figures):
        return Finding(
            "evaluate",
            f"evaluate(x) gives {told!r:.120}: not an Evaluation of finite numbers",
            "return Evaluation(score, {name: number, …}, images or None); .item() makes a number of a tensor",
        )
    if told.score < 0:
        return Finding("evaluate", f"the score is {told.score}", "lower is better and 0 the best: never negative")
    return told


def _undisturbed(make: Make, x: Tensor) -> bool:
    """Whether a task's next gradients are the same after it made images."""
    quiet, asked = make(0), make(0)
    for task in (quiet, asked):
        task.gradient(x.clone())
    asked.generate(x.clone(), _IMAGES, 0)  # evaluate() is asked of those built to score
    return all(same_bits(quiet.gradient(x.clone()).field, asked.gradient(x.clone()).field) for _ in range(2))
