"""Checks of a task's gradients: that every parameter has one, and that it leads downhill."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gannet.node.layout import BUFFERS, TensorSpec
from gannet.node.plugins import Finding
from gannet.node.tasks.base import AnyTask
from gannet.node.tasks.custom.check_layout import modules, storages

_CALLS = 8
_STEPS = (1e-2, 3e-3, 1e-3, 3e-4)
_VISIBLE = 1e-4
_UPHILL = -0.1
"""A share of the promised descent: below it, at every step length, the gradient leads up."""


def left_out(task: AnyTask) -> Iterator[Finding]:
    """Parameters whose gradient is zero at x_0 and around it, and modules whose parameters are not in x."""
    x = task.initial()
    seen = torch.zeros(len(task.gradient(x.clone()).field), dtype=torch.bool)
    stream = torch.Generator().manual_seed(0)
    acted: set[str] = set()
    for _ in range(_CALLS):
        at = x.clone()
        parameters = slice(0, len(seen))
        at[parameters] += 0.05 * torch.randn(len(seen), generator=stream)
        g = task.gradient(at)
        seen |= g.field != 0
        acted |= set(g.active)
    if never := [name for name in task.players if name not in acted]:
        yield Finding(
            "left-out",
            f"player {never[0]} was not active in {_CALLS} gradients: it would never learn",
            "give it a loss, at least every few steps",
        )
    for spec in task.layout:
        if spec.player not in acted or spec.player == BUFFERS or seen[spec.place].any():
            continue
        moved = _moved_by(task, x, spec)
        if spec.player in moved:
            yield Finding(
                "detached",
                f"{spec.name} changes the loss of {spec.player}, but its gradient was zero at {_CALLS} points",
                "look for detach(), .item(), .data or a new tensor made of numbers on the way to the loss",
            )
        elif not moved:  # what moves another's loss only may be a bias that cancels in its own, as a WGAN critic's
            yield Finding(
                "left-out",
                f"{spec.name} has no gradient: it was zero at {_CALLS} points, and no loss depends on it",
                f"use it in the loss of {spec.player}, or leave it out of the layout",
            )
    held = storages(task)
    placed = {(spec.name.partition(".")[2], spec.shape) for spec in task.layout}
    for name, module in modules(task).items():
        for path, parameter in module.named_parameters():
            # Without a FlatModel values may be copied: then a parameter is known by its name and shape.
            inside = parameter.untyped_storage().data_ptr() in held
            known = inside if held else (path, tuple(parameter.shape)) in placed
            if parameter.requires_grad and not known:
                yield Finding(
                    "not-in-x",
                    f"{name}.{path} is a parameter that no player has: it is neither trained nor sent",
                    f"return {name} from networks(), or freeze it: {name}.requires_grad_(False)",
                )
                break


def _moved_by(task: AnyTask, x: Tensor, spec: TensorSpec) -> set[str]:
    """The players whose loss on one minibatch is another when that tensor is."""
    state = {name: value.clone() for name, value in task.state().items()}
    moved: set[str] = set()
    for shift in (0.5, -0.5):
        losses: list[dict[str, float]] = []
        for at in (x.clone(), x.clone()):
            if losses:
                at[spec.place] += shift
            task.load_state(state)
            losses.append(task.gradient(at).losses)
        moved |= {
            name
            for name, loss in losses[0].items()
            if abs(losses[1].get(name, loss) - loss) > _VISIBLE * max(1.0, abs(loss))
        }
    return moved


def wrong_sign(task: AnyTask) -> Iterator[Finding]:
    """Against finite differences: along minus its field, each player's own loss on the same minibatch falls."""
    slopes: dict[str, list[float]] = {name: [] for name in task.players}
    x = task.initial()
    for _ in range(_CALLS):
        state = {name: value.clone() for name, value in task.state().items()}
        g = task.gradient(x.clone())
        after = {name: value.clone() for name, value in task.state().items()}
        for player in g.active:
            descent = g.field[task.players[player]]
            visible = _STEPS[0] * float(descent.norm()) > 1e-6 * max(1.0, abs(g.losses[player]))  # in float32
            if visible and len(slopes[player]) < 3:
                slopes[player].append(_slope(task, x, player, descent, state))
        task.load_state(after)
    for player, found in slopes.items():
        if found and sum(found) / len(found) < _UPHILL:
            yield Finding(
                "sign",
                f"the loss of {player} grows along minus its field "
                f"({sum(found) / len(found):+.2f} of what its gradient promises)",
                "the field holds each player's gradient of its own loss, and is subtracted: a player that maximises F"
                " has −∇F there, and reports −F as its loss",
            )


def _slope(task: AnyTask, x: Tensor, player: str, descent: Tensor, state: dict[str, Tensor]) -> float:
    """How much of |descent|² the player's loss falls by, a unit along it; of all step lengths the highest."""
    where, norm = task.players[player], float(descent.norm())
    best = -float("inf")
    for relative in _STEPS:
        step = relative * max(1.0, float(x[where].norm())) / norm
        losses = []
        for sign in (1, -1):
            at = x.clone()
            at[where] += sign * step * descent
            task.load_state(state)
            losses.append(task.gradient(at).losses[player])
        best = max(best, (losses[0] - losses[1]) / (2 * step * norm**2))
    return best
