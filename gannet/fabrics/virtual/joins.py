"""Nodes of the virtual fabric that join a run under way: until then they are missing as lost ones are."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from gannet.fabrics.job import Job, joined_line, returned_line
from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.node import Node
from gannet.fabrics.virtual.returning import Returning
from gannet.fabrics.virtual.turns import VirtualTurns


class Surroundings(Protocol):
    """The simulation as joins see it."""

    time: Timeline
    nodes: list[Node]
    turns: VirtualTurns
    lost: dict[int, str]

    @property
    def returning(self) -> Returning:
        """By which nodes join, too."""
        ...

    def without(self, node: Node) -> None:
        """That node is not there, or no longer."""
        ...


class Joins:
    """Has the nodes of `job.join_at_s` wait outside, and come in at their time."""

    def __init__(self, fabric: Surroundings, job: Job) -> None:
        self._fabric, self._outside = fabric, set(job.join_at_s)
        for rank, at_s in sorted(job.join_at_s.items()):
            fabric.lost[rank] = job.not_yet_there(rank)
            fabric.without(fabric.nodes[rank])
            fabric.time.at(at_s, partial(fabric.returning.begin, rank))
            for node in fabric.nodes:
                if node.rank != rank:
                    node.mailbox.lose(rank, fabric.lost[rank])
                    fabric.turns.of[node.rank].lose(rank)

    def line(self, rank: int, neighbour: int, step: int) -> dict[str, Any]:
        """The line for Sink.links of a node that trains with the others from that step on."""
        told = joined_line if rank in self._outside else returned_line
        self._outside.discard(rank)
        return told(self._fabric.time.now_s, rank, neighbour, step)
