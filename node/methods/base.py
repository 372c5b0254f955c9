"""Base class of methods: a method declares its settings, capabilities, requirements and network traffic.

A method is one class derived from `Method`, in gannet.node.methods or in a user's own file. Controllers, fabrics,
specs and reports query it; none of them knows a method by name. The defaults are those of plain gossip: every node
sends its whole vector to its neighbours on the topology once a step. Imports no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gannet.node.codecs.registry import CodecSetting, codec_config, names_of
from gannet.node.methods.formulas import (
    Collective,
    FlatVector,
    Group,
    Traffic,
    average_traffic,
    collective_edges,
    copy_bytes,
    farthest,
    gossip_traffic,
    longest_adam_step,
)
from gannet.node.mixing.base import MixingRule
from gannet.node.settings import Settings
from gannet.node.topologies.weights import Edge

if TYPE_CHECKING:
    from gannet.node.methods.formulas import OptimizerSettings
    from gannet.node.tasks.config import TaskSetting
    from gannet.node.topologies.topology import Topology

Carries = Literal["nothing", "parameters", "gradients", "compressed"]
# Takes a Worker, yields Steps. Typed loosely: gannet.node.training imports this module.
Algorithm = Callable[[Any], AsyncGenerator[Any, None]]


class AlgorithmSetting(Settings):
    """The value of a spec's `algorithm:`, from which a Method is made."""

    shipped: ClassVar[bool] = True
    """Whether the method is part of this package, so that asking it runs no code of a user's."""

    name: str

    @property
    def title(self) -> str:
        """The method's name in messages and reports."""
        return self.name

    @property
    @abstractmethod
    def traits(self) -> Method:
        """The method, with its properties and requirements."""

    @abstractmethod
    def build(self) -> Algorithm:
        """The training loop: given a Worker, an async generator that yields a Step after every gradient step.

        A node calls this once, before its training clock begins.
        """


class Method(AlgorithmSetting):
    """A method of training; its fields are what a spec can set."""

    coroutine: ClassVar[str] = ""
    """module:function of the algorithm, imported when it is to train; or override `run`."""

    exchanges: ClassVar[bool] = True
    """Whether nodes send each other anything."""

    gossips: ClassVar[bool] = True
    """Whether nodes mix with their neighbours on the topology."""

    asynchronous: ClassVar[bool] = False
    """Whether nodes have no common rounds: each makes its steps at its own speed, and messages are collected."""

    static_graph: ClassVar[str] = ""
    """Why the graph must stay the same, as in "keeps a replica of each neighbour"; empty: it may change."""

    symmetric_graph: ClassVar[bool] = False
    """Whether the mixing matrix must be symmetric: what one end of an edge does, the other takes back."""

    mixes_by_rule: ClassVar[bool] = False
    """Whether it mixes by the rule of the spec's `mixing`, as gossip() and server_average() do."""

    moves_by: ClassVar[Literal["", "adam", "oadam"]] = ""
    """The optimizer of every step, where nothing else moves parameters but weighted means of the nodes'; empty: other
    things do."""

    takes_turns: ClassVar[bool] = False
    """Whether its gossip begins each round by Peers.begin_round, so that large messages can take turns with those of
    the round before, where the graph changes in between."""

    worker_player: ClassVar[str | None] = None
    """The player that ranks 1 and up hold, each its own, while rank 0 holds all else (MD-GAN)."""

    all_reduce: ClassVar[str] = ""
    """module:class that carries out the AllReduce effect in a node's process, instead of the exchange."""

    keeps_mean: ClassVar[bool] = True
    """Whether an exchange leaves the nodes' mean where it is: with a learning rate of 0, nothing moves it."""

    not_per_player: ClassVar[str] = ""
    """Why it cannot train one player among others ("has no common steps, …"); empty: it can."""

    not_resumable: ClassVar[str] = ""
    """Why a run cannot resume from a checkpoint, a whole clause; empty: it can."""

    not_returning: ClassVar[str] = "does not say what a node that comes back begins with"
    """Why a lost node cannot come back; empty: it can, with a neighbour's x and what that keeps for its optimizer."""

    not_in_islands: ClassVar[str] = "does not say what its nodes do without each other for a while"
    """Why nodes wait while links between them are cut; empty: each part of the graph trains on, as if the others were
    lost, and PeerLost is all that its nodes see of that."""

    not_modelled: ClassVar[str] = ""
    """Why the virtual fabric cannot run it, and what to do; empty: it can."""

    not_encrypted: ClassVar[str] = ""
    """Why its messages cannot be encrypted, and what to do; empty: they can."""

    @property
    def carries(self) -> Carries:
        """The kind of values it exchanges, which decides the codecs it accepts.

        parameters: no codec that quantizes. gradients (or differences that serve as such): unbiased codecs.
        compressed: any codec, as the method compensates errors by memory or replicas.
        """
        return "parameters"

    @property
    def averages(self) -> Collective | None:
        """The collective by which it averages over all nodes, if it does."""
        return None

    @property
    def on_loss(self) -> tuple[str, ...]:
        """The values of a spec's `on_loss` (see gannet.node.losses) that a run with this method can have."""
        return ("stop",) if self.averages == "ring" else ("continue", "stop")

    @property
    def exchange_every(self) -> int:
        """Gradient steps from one exchange to the next."""
        return 1

    @property
    def first_acts(self) -> dict[str, tuple[int, str]]:
        """Settings that do nothing in a run that ends early: by name, the step at which they first act, and how."""
        return {"every": (self.exchange_every, "nodes exchange")} if self.exchange_every > 1 else {}

    @property
    def gossip_rounds(self) -> int:
        """Rounds of gossip in one exchange."""
        return 1

    @property
    def overlaps(self) -> bool:
        """Whether messages are in flight while the next gradient is computed."""
        return False

    @property
    def paces_per_step(self) -> int:
        """How many times a gradient's pace a step may take on one node."""
        return 1

    @property
    def not_robust(self) -> str:
        """Why it can mix by the mean only, as in "exchanges nothing"; empty: it can mix by any rule."""
        if not self.exchanges:
            return "exchanges nothing"
        if self.averages == "ring":
            return "averages around a ring, where no node sees another's own values"
        return "" if self.mixes_by_rule else "adds up what its peers send, and cannot leave out or bound any of it"

    @property
    def own_speed(self) -> bool:
        """Whether no node ever waits for another's step."""
        return self.asynchronous or not self.exchanges

    # Training.

    @property
    def traits(self) -> Method:
        return self

    def build(self) -> Algorithm:
        if not self.coroutine:
            return self.run
        algorithm = load(self.coroutine)
        return lambda worker: algorithm(worker, self)

    def run(self, worker: Any) -> AsyncGenerator[Any, None]:
        """The algorithm: an async generator over a Worker, which yields a Step after every gradient step."""
        raise NotImplementedError(f"{type(self).__name__} has no algorithm: define run(self, worker)")

    def shard_of(self, rank: int, world: int) -> tuple[int, int]:
        """(which share of the data, of how many shares) a node has."""
        return rank, world

    def reach(self, optimizer: OptimizerSettings, player: str, steps: int) -> float | None:
        """How far from its start a parameter can be after so many steps, whatever the gradients; None: not known."""
        longest = longest_adam_step(optimizer.beta1, optimizer.beta2) if self.moves_by else None
        if longest is None:
            return None
        return (3 if self.moves_by == "oadam" else 1) * longest * optimizer.rate_of(player) * steps

    # Requirements. Each raises ValueError with what is wrong and what to do.

    def check_topology(self, topology: Topology) -> None:
        """Whether the method can run, and is correct, on that graph with its number of nodes."""
        if self.static_graph and topology.period != 1:
            raise ValueError(
                f"{self.name} {self.static_graph} and needs a graph that stays the same, which {topology.choice} is "
                "not: use a static one (ring, torus, hypercube, complete, star), or a method that follows a changing "
                "one (dp-oadam, deepsqueeze)"
            )
        if self.symmetric_graph and not topology.symmetric:
            raise ValueError(
                f"{self.name} needs symmetric weights, and {topology.choice} is directed: "
                "use an undirected graph (ring, torus, complete), or algorithm sgp"
            )

    def check_mixing(self, rule: MixingRule, topology: Topology) -> None:
        """Whether the method can mix by that rule, and every node hears from enough peers in each round."""
        if not rule.robust:
            return
        if self.not_robust:
            raise ValueError(
                f"mixing: {rule.name} cannot be used with algorithm {self.name}, which {self.not_robust}: use "
                "dp-oadam or dposg, cp-oadam or fedgan by way of a server, or mixing: mean"
            )
        if self.averages is not None and not rule.by_coordinate:
            raise ValueError(
                f"mixing: {rule.name} looks at whole vectors, and the server of {self.name} averages segment by "
                "segment: use trimmed-mean or median"
            )
        least, world = rule.least_peers, topology.world
        if self.averages is not None and world - 1 < least:
            raise ValueError(f"mixing: {rule} needs {least} workers and a server, and there are {world} nodes in all")
        if self.gossips and topology.fewest_incoming < least:
            raise ValueError(
                f"mixing: {rule} needs {least} peers for each node in each round, and {topology.choice} over {world} "
                f"nodes gives some only {topology.fewest_incoming}: use a denser topology, such as torus or complete"
            )

    def check_task(self, task: TaskSetting) -> None:
        """Whether the method can train that task, and the task sets nothing that the method decides."""

    def check_codec(self, codec: CodecSetting) -> None:
        """Whether the method's messages can be sent in that codec.

        Quantizing gossiped or averaged parameters fails: x ← W Q(x) stalls or grows. Gradients may be quantized
        without bias, for a step's error is then additional noise; a biased codec needs an error memory.
        """
        traits = codec_config(codec).traits
        if traits.casts or self.carries in ("nothing", "compressed"):
            return
        if self.carries == "parameters":
            raise ValueError(
                f"codec {codec} quantizes gradients, and {self.name} exchanges parameters, which would stall or "
                "diverge: use algorithm choco, or cp-oadam with average: gradients, or codec "
                f"{names_of(casts=True)}"
            )
        if not traits.unbiased:
            raise ValueError(
                f"codec {codec} is biased and needs an error memory, which {self.name} has not: "
                f"use codec {names_of(casts=False)}"
            )

    def check_pace(self, pace_ms: float | None) -> None:
        """Whether a clock says when snapshots are due, where no common steps do."""
        if self.asynchronous and pace_ms is None:
            raise ValueError(
                f"{self.name} has no common steps, so its snapshots are taken by the clock, every "
                "snapshot_every · pace_ms: set pace_ms, for example 50"
            )

    def check_checkpoints(self, every: int | None) -> None:
        """Whether a run could resume from the checkpoints that the spec requests."""
        if every is not None and self.not_resumable:
            raise ValueError(
                f"checkpoint_every: {self.not_resumable}, so it cannot be resumed from a checkpoint: leave it out, "
                "or use a synchronous method (dp-oadam, choco, cp-oadam)"
            )

    def check_returns(self) -> None:
        """Whether a lost node can come back. Raises ValueError with the reason where not."""
        if self.not_returning:
            raise ValueError(f"a lost node cannot come back: algorithm {self.name} {self.not_returning}")

    def check_modelled(self) -> None:
        """Whether the virtual fabric can run the method."""
        if self.not_modelled:
            raise ValueError(f"algorithm {self.name} {self.not_modelled}")

    def check_encrypted(self) -> None:
        """Whether the method's messages can be encrypted."""
        if self.not_encrypted:
            raise ValueError(f"encrypt: algorithm {self.name} {self.not_encrypted}")

    # Network traffic.

    def edges(self, group: Group) -> tuple[Edge, ...]:
        """Directed edges that its messages ever cross, sorted."""
        found = set(collective_edges(self.averages, group.world)) if self.averages else set()
        return tuple(sorted(found | set(group.topology.edges() if self.gossips else ())))

    def rounds_ahead(self, group: Group) -> int:
        """The most rounds that a sender can be ahead of a receiver.

        A node begins a round when it has the messages of the one before, so it is at most as many rounds ahead
        of another as it takes edges to be reached from it. No two nodes are farther apart than by way of rank 0;
        for gossip see Topology.rounds_ahead. Where a method has rounds of both kinds, both together are enough.
        """
        ahead = farthest(collective_edges(self.averages, group.world)) if self.averages else 0
        return ahead + (group.topology.rounds_ahead() if self.gossips else 0)

    def copy_bytes(self, group: Group, vector: FlatVector) -> int:
        """Payload bytes that one gossip round sends along one edge."""
        return copy_bytes(group, vector)

    def message_bytes(self, group: Group, vector: FlatVector) -> int:
        """Payload bytes that one node sends another in one exchange."""
        return self.copy_bytes(group, vector)

    def largest_payload(self, group: Group, vector: FlatVector) -> int:
        """Length of the longest payload of a run, bytes. The message that opens the channels is the whole vector."""
        return max(group.codec.wire_bytes(vector.values), 4 * vector.raw)

    def traffic(self, group: Group, vector: FlatVector) -> Traffic:
        """One exchange of the vector; asked only where there are edges."""
        edges = self.edges(group)
        if self.averages is not None:
            return average_traffic(group, self.averages, vector, edges, self.exchange_every)
        size = self.copy_bytes(group, vector)
        return gossip_traffic(group, edges, size, self.gossip_rounds, self.exchange_every)


def load(path: str) -> Any:
    """The object that `module:name` stands for."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
