"""An algorithm of one's own, watched: its mistakes are reported with its file and line."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import torch
from torch import Tensor

from gannet.node.plugins import USER_ERRORS, PluginError, PluginMistake, told
from gannet.node.training import effects
from gannet.node.training.effects import PeerLost
from gannet.node.training.peers import CollectiveFailed, Diverged, OutOfRange
from gannet.node.training.worker import Step, Worker

UNCAUGHT = "catch PeerLost to train on without a lost peer"


async def checked(
    algorithm: Callable[[Worker], AsyncGenerator[Step, None]], title: str, worker: Worker
) -> AsyncGenerator[Step, None]:
    """The algorithm's own steps. Raises PluginError with file and line for what goes wrong in it."""
    made = worker.made
    try:
        running = algorithm(worker)
        if not hasattr(running, "__anext__"):
            if inspect.iscoroutine(running):
                running.close()
            raise PluginMistake(
                "run is no async generator: write `async def run(self, worker)` with a `yield Step(…)`"
            )
        async with aclosing(running) as steps:
            async for step in steps:
                made += 1
                _check(step, worker, f"step {made}")
                yield step
        raise PluginMistake(
            f"run ended by itself after step {made}: loop over worker.steps(), which has no end; the run's stop "
            "condition ends it"
        )
    except (PluginError, CollectiveFailed, Diverged, OutOfRange):
        raise
    except PeerLost as lost:
        raise CollectiveFailed(f"{told(lost, title)}; {UNCAUGHT}") from lost
    except USER_ERRORS as error:
        if _of_a_fabric(error):
            raise
        raise PluginError(told(error, title)) from error


def _check(step: object, worker: Worker, where: str) -> None:
    if not isinstance(step, Step):
        raise PluginMistake(f"run yielded {type(step).__name__} at {where}: yield Step(x, g.losses)")
    x, size = step.x, worker.task.size
    if not isinstance(x, Tensor) or x.shape != (size,) or x.dtype != torch.float32:
        what = f"{tuple(x.shape)}, {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise PluginMistake(f"the x of {where} is {what}: yield all of x, shape ({size},), float32")


def _of_a_fabric(error: BaseException) -> bool:
    """Whether a fabric has answered an effect with this error: the run ends, or its process does."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename == effects.__file__ and frame.name == "__await__" for frame in frames)
