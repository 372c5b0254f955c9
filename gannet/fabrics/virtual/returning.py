"""Lost nodes that come back on the virtual fabric, as they do on real ones (see gannet.fabrics.session.returning).

A node that comes back asks a neighbour for its state, which crosses the link between them as a message does. Then all
nodes meet after a step, and it continues from there with them. Control messages take no time on this fabric, nor does
starting a process: what a return costs here is what its state costs the links, and the wait for the meeting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gannet.fabrics.virtual.clock import Timeline
from gannet.fabrics.virtual.node import Node
from gannet.node.training.checkpoint import Checkpoint
from gannet.node.training.effects import Met


class Surroundings(Protocol):
    """The simulation as a return sees it."""

    time: Timeline
    nodes: list[Node]
    lost: dict[int, str]

    @property
    def last_step(self) -> float:
        """The step after which the run ends; inf while that is not known."""
        ...

    def carry(self, source: int, to: int, size: int, deliver: Callable[[], None]) -> None:
        """Send `size` bytes of payload over a link."""
        ...

    def revive(self, rank: int, state: Checkpoint, met: Met) -> None:
        """Have that rank begin in the middle of the run, with this state."""
        ...

    def proceed(self, node: Node, met: Met) -> None:
        """Have a node that met the others continue."""
        ...


class Returning:
    """At most one node comes back at a time; others wait for theirs."""

    def __init__(self, fabric: Surroundings) -> None:
        self._fabric = fabric
        self._waiting: list[int] = []
        self._rank: int | None = None  # who is coming back
        self._giver: Node | None = None  # who has been asked for its state and has not given it yet
        self._state: Checkpoint | None = None
        self._met: dict[int, Met] = {}
        self._paused = False

    @property
    def meeting(self) -> bool:
        """Whether nodes are to meet for a return."""
        return self._rank is not None and self._state is not None

    def pause(self) -> None:
        """Links are cut: no node comes back until `resume`, and one that is about to begins again then."""
        self._paused = True
        if self._rank is None:
            return
        self._waiting.insert(0, self._rank)
        self._rank = self._giver = self._state = None
        for node in (node for node in self._fabric.nodes if node.alive and not node.done):
            node.give_state = None
            node.meeting.cancel()
            if node.rank in self._met:
                self._fabric.proceed(node, self._met[node.rank])

    def resume(self) -> None:
        """Let nodes come back."""
        self._paused = False
        self._next()

    def begin(self, rank: int) -> None:
        """That node is back; nothing happens where it was not lost."""
        if rank in self._fabric.lost and rank != self._rank and rank not in self._waiting:
            self._waiting.append(rank)
            self._next()

    def lose(self, rank: int, after_s: float | None) -> None:
        """A node has ended; it comes back `after_s` later, unless that is None."""
        self.look()
        if after_s is not None:
            self._fabric.time.after(after_s, partial(self.begin, rank))

    def arrive(self, node: Node, met: Met) -> None:
        """A node has stopped at the meeting."""
        self._met[node.rank] = met
        self.look()

    def look(self) -> None:
        """Hold the meeting if all are there; call it as well when a node has ended."""
        if self._rank is None:
            return
        present = [node for node in self._fabric.nodes if node.alive and not node.done]
        if not present:
            self._rank = None
        elif self._giver is not None and self._giver not in present:
            self._ask_neighbour()
        elif self._state is not None and all(node.rank in self._met for node in present):
            self._hold(present)

    def _next(self) -> None:
        if self._rank is None and self._waiting and not self._paused:
            self._rank, self._state, self._met = self._waiting.pop(0), None, {}
            self._ask_neighbour()

    def _ask_neighbour(self) -> None:
        assert self._rank is not None
        present = [node for node in self._fabric.nodes if node.alive and not node.done]
        senders = self._fabric.nodes[self._rank].worker.neighbours(1).incoming
        near = [node for node in present if node.rank in senders] or present
        self._giver = near[0] if near else None
        if self._giver is None:
            self._rank = None
        else:
            self._giver.give_state = partial(self._carry, self._giver.rank)

    def _carry(self, source: int, state: Checkpoint) -> None:
        assert self._rank is not None
        self._giver = None
        size = sum(value.numel() * value.element_size() for value in state.tensors.values())
        self._fabric.carry(source, self._rank, size, partial(self._call_meeting, self._rank, state))

    def _call_meeting(self, rank: int, state: Checkpoint) -> None:
        if rank != self._rank or self._giver is not None:
            return  # of an attempt that a cut has ended
        present = [node for node in self._fabric.nodes if node.alive and not node.done]
        step = max((node.meeting.ask() for node in present), default=0)
        if not present or step >= self._fabric.last_step:
            for node in present:
                node.meeting.cancel()
            self._rank = None  # the run ends first
            return
        self._state = state
        for node in present:
            node.meeting.agree(step)

    def _hold(self, present: list[Node]) -> None:
        assert self._rank is not None and self._state is not None
        rank, state, all_met = self._rank, self._state, [self._met[node.rank] for node in present]
        rounds = tuple(max(each) for each in zip(*(met.rounds for met in all_met), strict=True))
        met = Met(max(met.step for met in all_met), rounds)
        self._rank, self._state = None, None
        self._fabric.revive(rank, state, met)
        for node in present:
            node.meeting.proceed(met)
            self._fabric.proceed(node, met)
        self._next()
