"""The interface of every fabric: it takes a Job, reports events to a Sink, and returns an Outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from gannet.fabrics.addresses import MESH_DEVICE, mesh_address
from gannet.fabrics.not_finite import OnNotFinite
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.stack import Stack
from gannet.netem.links.state import LinkState

if TYPE_CHECKING:  # a spec is checked before torch is imported, and before the sandbox is entered
    from torch import Tensor

    from gannet.fabrics.recovery.past import Recovery
    from gannet.netem.measure.certificate import Certificate
    from gannet.node.config import NodeConfig
    from gannet.node.training.meter import StepStats
    from gannet.node.training.start import StartWeights

NODE_LOST = "node-lost"
NODE_RETURNED = "node-returned"
NODE_JOINED = "node-joined"  # for the first time
ISLANDS = "islands"  # links are cut, and nodes train without each other; or some or all are together again
LEFT_EARLY = "left-early"


@dataclass(frozen=True)
class LinkChange:
    """From `at_s` seconds of training on, `links` apply.

    Changes of one `name`, if any, are the steps of one series (a trace, a ramp): the run folder records its
    beginning, its end and the series of its values, not every step.
    """

    at_s: float
    links: LinkState
    name: str = ""


def recorded(changes: Sequence[LinkChange]) -> list[tuple[LinkChange, str]]:
    """The changes that are events of a run, each with its operation: of a series only beginning and end."""
    first, last = {c.name: c for c in reversed(changes)}, {c.name: c for c in changes}
    found = []
    for change in changes:
        begins, ends = not change.name or change is first[change.name], change is last[change.name]
        if begins or ends:
            found.append((change, f"{'' if begins else 'end of '}{change.name or 'apply'}"))
    return found


@dataclass(frozen=True)
class Resumed:
    """Where a run resumes: after step `step`, each node with its checkpoint (packed, see
    gannet.node.training.checkpoint), by rank.

    `t_s`: the nodes' training clocks at that step, by rank. `changes`: data or versions that are not those of before.
    `passed_over`: why later sets of checkpoints could not be used.
    """

    step: int
    t_s: tuple[float, ...]
    states: tuple[bytes, ...] = field(repr=False)
    changes: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    @property
    def begin_s(self) -> float:
        """The time at which the links' clock resumes: every node had made the step by then."""
        return max(self.t_s)


@dataclass(frozen=True)
class Job:
    """One run: the nodes' configuration, the links between them, and when to stop. `seed`: of the links.

    `stack`: the settings of every node's TCP and shaped interface (the virtual fabric has neither). `message_bytes`
    and `compute_s` (the longest that a node may be busy between two exchanges) determine how long a node may be
    silent when links are changed while it trains. `resumed`: where it resumes; `links` are then those of that moment,
    and `changes` the remaining ones. `start_weights`: to begin from instead of the task's own. `return_after_s`: how
    long after its loss a node is started again; None: lost nodes stay away. `encrypted`: nodes reach each other by
    mutual TLS. `on_not_finite`: see gannet.fabrics.not_finite. `join_at_s`: when nodes join that are not there at the
    beginning, by rank. `recovery`: of a controller that is started again.
    """

    config: NodeConfig
    world: int
    links: LinkState
    changes: tuple[LinkChange, ...] = ()
    stop_s: float | None = None
    engine: str | None = None
    seed: int = 0
    message_bytes: int = 0
    compute_s: float = 0.0
    stack: Stack = field(default_factory=Stack)
    resumed: Resumed | None = None
    start_weights: StartWeights | None = None
    return_after_s: float | None = None
    encrypted: bool = False
    on_not_finite: OnNotFinite = "leave"
    join_at_s: Mapping[int, float] = field(default_factory=dict)
    recovery: Recovery | None = None

    def not_yet_there(self, rank: int) -> str:
        """Why a node that joins later is missing until then."""
        return f"it was to join at {self.join_at_s[rank]:g} s"

    @property
    def begin_s(self) -> float:
        """The training clock when this job's training begins, seconds."""
        return self.resumed.begin_s if self.resumed else 0.0

    @cached_property
    def plans(self) -> tuple[InterfacePlan, ...]:
        """The plans of the nodes' interfaces when the run begins, by rank, with the addresses of
        gannet.fabrics.addresses.
        """
        return self.plans_of(self.links)

    def links_at(self, t_s: float) -> tuple[LinkState, tuple[LinkChange, ...]]:
        """(the links that the schedule has at that moment, the changes after it)."""
        past = [change for change in self.changes if change.at_s <= t_s]
        latest = max(past, key=lambda change: change.at_s, default=None)
        later = tuple(change for change in self.changes if change.at_s > t_s)
        return self.links if latest is None else latest.links, later

    def plans_of(self, links: LinkState) -> tuple[InterfacePlan, ...]:
        """The same for another state of the links."""
        return mesh_plans(links, self.world, self.seed)


def mesh_plans(links: LinkState, world: int, seed: int) -> tuple[InterfacePlan, ...]:
    """The plans of a state of the links, by rank, for nodes with the addresses of gannet.fabrics.addresses."""
    return links.plans([mesh_address(rank) for rank in range(world)], [MESH_DEVICE] * world, seed)


@dataclass(frozen=True)
class NodeInterface:
    """A node's shaped interface: its device, and its IPv4 address on the mesh."""

    rank: int
    device: str
    address: str


class LinkAgent(Protocol):
    """A connection to the agent that holds one node's links; gannet.netem.agent.client.AgentClient is one.

    `request` raises gannet.netem.agent.client.AgentError when the agent refuses or does not answer in time, and
    AgentGone once the agent, or the connection to it, has ended.
    """

    name: str

    def request(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]: ...

    def close(self) -> None: ...


@runtime_checkable
class Restartable(Protocol):
    """A LinkAgent that can be started again on its node, without any links, after it has ended."""

    def restart(self) -> None: ...


@runtime_checkable
class MayBeAway(Protocol):
    """A LinkAgent whose node may not be there from the start: `away` says why, and is empty where it is there."""

    away: str


class Sink(Protocol):
    """Receives a fabric's events: the run folder's writer and the live display. Called from one thread."""

    def phase(self, text: str) -> None:
        """The present stage of the set-up, before training: for the progress display."""
        ...

    def step(self, rank: int, stats: StepStats) -> None: ...

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Keep a node's state (flat float32). True: the run has reached its score and may stop."""
        ...

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Keep what a node needs to resume after that step. Not called once a node is lost."""
        ...

    def links(self, line: dict[str, Any]) -> None:
        """One reading of a node's interface and link engine, a change of links, or the loss of a node; see
        gannet.ledger.records.
        """
        ...

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None: ...

    def certificate(self, certificate: Certificate) -> None:
        """The links as measured before training."""
        ...


def change_line(change: LinkChange, operation: str) -> dict[str, Any]:
    """The line for Sink.links by which a fabric without operators tells that scheduled links apply."""
    line = {"event": "links", "detail": change.links.describe(), "by": "schedule", "operation": operation}
    return {"t_s": change.at_s, **line}


def all_lost(lost: Mapping[int, str]) -> str:
    """Why a run has failed that has no node left."""
    return f"every node was lost: {'; '.join(f'node {rank}: {why}' for rank, why in sorted(lost.items()))}"


def lost_line(t_s: float, rank: int, reason: str) -> dict[str, Any]:
    """The line for Sink.links by which a fabric tells at once that a node is lost."""
    told = {"t_s": t_s, "event": NODE_LOST, "node": rank, "reason": reason}
    return {**told, "detail": f"node {rank} was lost: {reason}"}


def returned_line(t_s: float, rank: int, neighbour: int, step: int) -> dict[str, Any]:
    """The line for Sink.links by which a fabric tells that a lost node is back, with a neighbour's state."""
    told = {"t_s": t_s, "event": NODE_RETURNED, "node": rank, "step": step, "neighbour": neighbour}
    return {**told, "detail": f"node {rank} is back after step {step}, with the state of node {neighbour}"}


def joined_line(t_s: float, rank: int, neighbour: int, step: int) -> dict[str, Any]:
    """The line for Sink.links by which a fabric tells that a node has joined, with a neighbour's state."""
    told = {"t_s": t_s, "event": NODE_JOINED, "node": rank, "step": step, "neighbour": neighbour}
    return {**told, "detail": f"node {rank} has joined after step {step}, with the state of node {neighbour}"}


def islands_line(t_s: float, islands: Sequence[Sequence[int]], pairs: str) -> dict[str, Any]:
    """The line for Sink.links by which a fabric tells which nodes train without each other, since links are cut."""
    detail = f"links {pairs} are cut: {_parts(islands)}"
    return {"t_s": t_s, "event": ISLANDS, "islands": [list(island) for island in islands], "detail": detail}


def healed_line(t_s: float, islands: Sequence[Sequence[int]], pairs: str, step: int) -> dict[str, Any]:
    """The same once nodes have met after the end of a cut, and continue after that step."""
    line = islands_line(t_s, islands, pairs)
    return {**line, "step": step, "detail": f"links {pairs} are back: {_parts(islands)} after step {step}"}


def left_line(t_s: float, pairs: str, waited_s: float) -> dict[str, Any]:
    """The line for Sink.links by which a fabric tells that a run ended while its nodes waited for cut links."""
    detail = f"nodes wait for cut links ({pairs}) since {waited_s:.1f} s and the run's time is over: they leave"
    return {"t_s": t_s, "event": LEFT_EARLY, "detail": detail}


def _parts(islands: Sequence[Sequence[int]]) -> str:
    if len(islands) == 1:
        return "all train together"
    parts = [f"{'nodes' if len(island) > 1 else 'node'} {', '.join(map(str, island))}" for island in islands]
    return f"{' | '.join(parts)} train apart"


@dataclass
class Outcome:
    """How a run ended. `status` is "finished", "stopped" (by the user) or "failed"; times in seconds.

    `sent_bytes`: totals by rank and layer ("codec", "grpc", "interface") of the nodes that finished, read
    after their last message was acknowledged. `lost`: nodes that the run ended without, and why.
    """

    status: Literal["finished", "stopped", "failed"]
    reason: str = ""
    setup_s: float = 0.0
    memory_mb: dict[int, float] = field(default_factory=dict)
    sent_bytes: dict[tuple[int, str], int] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    certificate: Certificate | None = None
    environment: dict[str, Any] = field(default_factory=dict)


Fabric = Callable[[Job, Sink], Outcome]
