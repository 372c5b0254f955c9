"""Cut links on the virtual fabric: islands that train on, their meeting once the links are back, and the run's end.

Control messages take no time on this fabric.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, Protocol

from gannet.fabrics.job import Sink, healed_line, islands_line, left_line
from gannet.fabrics.session.cut_edges import GRACE_S, CutEdges, named
from gannet.fabrics.virtual.clock import Timeline, Timer
from gannet.fabrics.virtual.link_model import LinkModel
from gannet.fabrics.virtual.node import Node
from gannet.fabrics.virtual.returning import Returning
from gannet.fabrics.virtual.room import Room
from gannet.fabrics.virtual.turns import VirtualTurns
from gannet.node.training.effects import LeaveNow, Met


class Surroundings(Protocol):
    """The simulation as its islands see it."""

    time: Timeline
    nodes: list[Node]
    links: LinkModel[Any]
    turns: VirtualTurns
    room: Room
    sink: Sink
    last_step: float

    @property
    def returning(self) -> Returning:
        """The returns of lost nodes."""
        ...

    def proceed(self, node: Node, met: Met) -> None:
        """Have a node that met the others continue."""
        ...

    def interrupt(self, node: Node, why: Exception) -> None:
        """Raise an error in a node where it waits, now or when it waits next."""
        ...


class Islands:
    """Follows the links, which change at `times_s`."""

    def __init__(
        self, fabric: Surroundings, edges: CutEdges, times_s: Iterable[float], max_steps: int | None
    ) -> None:
        self._fabric, self.edges, self._max_steps = fabric, edges, max_steps
        self._met: dict[int, Met] | None = None  # who has come to the meeting that has been called
        self._foreseen: list[Timer] = []
        self.stopping = self._stop_later = False
        self.why_left = ""  # why nodes left before the run's last step
        for at_s in sorted(set(times_s)):
            fabric.time.at(at_s, self._follow)

    def _follow(self) -> None:
        now_s = self._fabric.time.now_s
        self.edges.follow(self._fabric.links.plans_at(now_s), now_s)
        self._foresee()

    def _foresee(self, after_s: float = -inf) -> None:
        """Look when something may be next, in place of the look that was foreseen before."""
        self._fabric.time.cancel(self._foreseen)
        next_s = max(self.edges.next_s(after_s), self._fabric.time.now_s)
        self._foreseen = [self._fabric.time.at(next_s, self._look)] if next_s < inf else []

    def _look(self) -> None:
        now_s, there = self._fabric.time.now_s, [node.rank for node in self._present()]
        self._foreseen = []
        if pairs := self.edges.close(now_s):
            self._fabric.returning.pause()
            self.stop_if_due()
            for a, b in pairs:
                self._cut(a, b, f"the links between nodes {a} and {b} are cut")
            self._fabric.sink.links(islands_line(now_s, self.edges.islands(there), named(pairs)))
        self._foresee(now_s)  # other links may have been cut later
        if self.stopping:
            self._leave_if_cut()
        elif self._met is None and self.edges.healed(now_s, there):
            self._fabric.returning.pause()
            self._met = {}
            self._name_step(self._present())
        self.resume()

    def resume(self) -> None:
        """Let lost nodes come back, unless nodes are apart; call it when a node has ended, too."""
        if not self.stopping and self._met is None and not self.edges.apart([n.rank for n in self._present()]):
            self._fabric.returning.resume()

    def _cut(self, a: int, b: int, reason: str) -> None:
        for rank, other in ((a, b), (b, a)):
            self._fabric.nodes[rank].mailbox.cut(other, reason)
            self._fabric.turns.of[rank].lose(other)
            self._fabric.links.drop(rank, other)
        self._fabric.room.cut(a, b)

    # The meeting: each island stops after a step of its own, and all continue from the latest.

    @property
    def meeting(self) -> bool:
        """Whether nodes have been asked to meet."""
        return self._met is not None

    def _name_step(self, present: list[Node]) -> None:
        answers = {node.rank: node.meeting.ask() for node in present}
        for island in self.edges.islands(answers):
            for rank in island:
                self._fabric.nodes[rank].meeting.agree(max(answers[each] for each in island))

    def arrive(self, node: Node, met: Met) -> None:
        """A node has stopped at the meeting."""
        assert self._met is not None
        self._met[node.rank] = met
        self.look()

    def look(self) -> None:
        """Hold the meeting if all are there; call it as well when a node has ended."""
        present = self._present()
        if self._met is None or not all(node.rank in self._met for node in present):
            return
        all_met, self._met = [self._met[node.rank] for node in present], None
        if not present:
            return
        rounds = tuple(max(each) for each in zip(*(met.rounds for met in all_met), strict=True))
        met = Met(max(met.step for met in all_met), rounds)
        pairs = self.edges.open([node.rank for node in present])
        for a, b in pairs:
            for rank, other in ((a, b), (b, a)):
                self._fabric.nodes[rank].mailbox.heal(other, rounds)
                self._fabric.turns.of[rank].readmit(other)
        if pairs:
            islands = self.edges.islands([node.rank for node in present])
            self._fabric.sink.links(healed_line(self._fabric.time.now_s, islands, named(pairs), met.step))
        self._release(present, [met] * len(present))
        self._foresee()
        self.resume()

    def _release(self, present: list[Node], met: list[Met]) -> None:
        for node, each in zip(present, met, strict=True):
            node.meeting.proceed(each)
            node.last_step.reach(each.step)
            self._fabric.proceed(node, each)

    def _present(self) -> list[Node]:
        return [node for node in self._fabric.nodes if node.alive and not node.done]

    # The end.

    def stop_if_due(self) -> None:
        """End the run if a meeting for a return has kept it from that, and is over."""
        if self._stop_later:
            self.stop_soon()

    def stop_soon(self) -> None:
        """End the run: each island after a step of its own, which all leave under the number of the latest."""
        present = self._present()
        if self.stopping or not present:
            return
        self._stop_later = self._fabric.returning.meeting
        if self._stop_later:  # a part of the nodes could make its last step before it comes to the meeting
            return
        self.stopping = True
        self._fabric.returning.pause()
        if self._met is not None:
            for node in present:
                node.meeting.cancel()
            waiting = [node for node in present if node.rank in self._met]
            self._release(waiting, [self._met[node.rank] for node in waiting])
            self._met = None
        answers = {node.rank: node.last_step.ask() for node in present}
        islands = self.edges.islands(answers)
        last = max(answers.values())
        if len(islands) > 1 and self._max_steps is not None:
            last = min(self._max_steps, max(last, *(node.steps for node in self._fabric.nodes)))
        self._fabric.last_step = min(self._fabric.last_step, last)
        for island in islands:
            for rank in island:
                step = max(answers[each] for each in island)
                self._fabric.nodes[rank].last_step.tell(step, last if len(islands) > 1 else None)
        self._leave_if_cut()

    def _leave_if_cut(self) -> None:
        """Nodes that wait for cut links do not reach the last step: they leave with what they have."""
        now_s = self._fabric.time.now_s
        if (waited_s := self.edges.waited_s(now_s)) >= GRACE_S:
            line = left_line(now_s, named(self.edges.cut - self.edges.closed), waited_s)
            self.why_left = str(line["detail"])
            self._fabric.sink.links(line)
            for node in self._present():
                self._fabric.interrupt(node, LeaveNow(int(self._fabric.last_step)))
