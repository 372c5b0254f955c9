"""What a run does about a lost node: the values of a spec's `on_loss`, and which of them a method can do."""

from __future__ import annotations

from typing import Literal

from gannet.node.methods.base import Method

OnLoss = Literal["continue", "reform", "stop"]


def check_on_loss(value: OnLoss, method: Method, players: bool = False) -> None:
    """Raise ValueError where the method cannot do that. `players`: each player has an exchange of its own."""
    if value == "reform" and players:
        raise ValueError(
            "on_loss: reform cannot be used where players are exchanged separately: use stop, or leave it out"
        )
    if value in method.on_loss:
        return
    able = " or ".join(method.on_loss)
    around = " around a ring" if method.averages == "ring" else ""
    why = {
        "continue": "averages over all nodes, and has no average without one",
        "reform": "has no average that the nodes that are left could form again",
        "stop": "does not say how a run of it ends",
    }[value]
    raise ValueError(
        f"on_loss: algorithm {method.name}{around} {why}: use {able}, or leave it out for what it does by itself"
    )
