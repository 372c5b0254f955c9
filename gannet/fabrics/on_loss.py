"""What a fabric does about a loss where the spec says so by `on_loss` (see gannet.node.losses)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gannet.fabrics.job import Job
    from gannet.fabrics.session.controller import Controller
    from gannet.fabrics.virtual.node import Node

HAS_LEFT = "it has made its last step"
"""Why a node is told as lost to those still there, where averages are formed again: it no longer answers."""


def stopped_by_loss(rank: int, step: int, reason: str) -> str:
    """Why a run with `on_loss: stop` has failed."""
    return f"node {rank} was lost after its step {step}: {reason}; the run ends with it (on_loss: stop)"


def tell_left(controller: Controller | None, job: Job, rank: int) -> None:
    """Where averages are formed again after losses, those still there no longer count on a node that is done."""
    if job.config.on_loss == "reform" and controller is not None:
        controller.order(peer_lost={"rank": rank, "reason": HAS_LEFT})


def tell_nodes_left(nodes: Sequence[Node], rank: int) -> None:
    """The same on the virtual fabric, for averages that are formed again."""
    for node in nodes:
        if node.rank != rank:
            node.mailbox.lose(rank, HAS_LEFT)
