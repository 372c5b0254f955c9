"""Which neighbours train without each other because the links between them are cut, and the islands that this leaves.

A cut shorter than GRACE_S changes nothing: messages wait for its end. After that both ends treat the edge as lost,
until its links have been back for HEAL_S and all nodes have met after a step (see gannet.node.process.meeting). An
edge that is cut one way is cut: TCP needs both, and one end would get more weight than it gives.

This is the rule alone, without a thread or a clock: a session calls it with real links, the virtual fabric with its
model of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf

from gannet.fabrics.job import Job
from gannet.netem.links.plan import InterfacePlan
from gannet.node.config import NodeConfig
from gannet.node.players.config import parts_of
from gannet.node.topologies.topology import Topology
from gannet.node.topologies.weights import Edge
from gannet.node.traffic.exchange import exchange_edges, rounds_ahead

GRACE_S = 5.0  # outages of a moving phone are shorter: 3 s in the longest of the shipped traces
HEAL_S = 1.0

Pair = tuple[int, int]  # two neighbours, the lower rank first


class CutEdges:
    """The neighbours of a run, by pairs. `why_waiting` as of the function below.

    Links that lose everything when training begins (`plans`: those of that moment, by rank) are a mistake in the spec
    and no cut, and stay what they are until they let something through; not where a run resumes.
    """

    def __init__(
        self, edges: Iterable[Edge], plans: Sequence[InterfacePlan], why_waiting: str, resumed: bool
    ) -> None:
        self.pairs = sorted({(min(edge), max(edge)) for edge in edges})
        self.why_waiting, self._world = why_waiting, len(plans)
        self.cut: set[Pair] = set()
        self.closed: set[Pair] = set()  # who train without each other
        self._dead = set() if resumed else self._impassable(plans)
        self._since_s: dict[Pair, float] = {}  # cut and not closed, or closed and not cut

    def follow(self, plans: Sequence[InterfacePlan], now_s: float) -> None:
        """Take in the links that apply from now on."""
        impassable = self._impassable(plans)
        self._dead &= impassable
        self.cut = impassable - self._dead
        self._since_s = {pair: self._since_s.get(pair, now_s) for pair in self.cut ^ self.closed}

    def close(self, now_s: float) -> list[Pair]:
        """The pairs that train without each other from now on."""
        if self.why_waiting:
            return []
        due = [pair for pair in sorted(self.cut - self.closed) if now_s >= self._since_s[pair] + GRACE_S]
        self.closed.update(due)
        for pair in due:
            del self._since_s[pair]
        return due

    def healed(self, now_s: float, there: Collection[int]) -> bool:
        """Whether links between nodes that are `there` have been back for long enough to meet."""
        back = self.closed - self.cut
        return any(now_s >= self._since_s[pair] + HEAL_S for pair in back if {*pair} <= {*there})

    def open(self, there: Collection[int]) -> list[Pair]:
        """The pairs of nodes that are `there` whose links are back: they train together from now on."""
        back = [pair for pair in sorted(self.closed - self.cut) if {*pair} <= {*there}]
        self.closed.difference_update(back)
        for pair in back:
            del self._since_s[pair]
        return back

    def apart(self, there: Collection[int]) -> bool:
        """Whether nodes that are `there` train without each other, or would if a lost one came back."""
        return any(pair in self.cut or {*pair} <= {*there} for pair in self.closed)

    def readmit(self, rank: int) -> None:
        """A lost node is back, and trains with all its neighbours; none of its links is cut (see `apart`)."""
        for pair in [pair for pair in self.closed if rank in pair]:
            self.closed.discard(pair)
            self._since_s.pop(pair, None)

    def waited_s(self, now_s: float) -> float:
        """For how long links have been cut that nodes wait for."""
        return max((now_s - self._since_s[pair] for pair in self.cut - self.closed), default=0.0)

    def next_s(self, after_s: float = -inf) -> float:
        """When, after that, `close` or `healed` may have something next; inf: not unless links change."""
        times = (since_s + (GRACE_S if pair in self.cut else HEAL_S) for pair, since_s in self._since_s.items())
        return min((each for each in times if each > after_s), default=inf)

    def islands(self, ranks: Collection[int]) -> list[list[int]]:
        """These nodes, those together that are connected by edges which are not closed. All, where no edge is closed
        and no node lost, or nodes exchange nothing.
        """
        if not self.pairs or (not self.closed and len(ranks) == self._world):
            return [sorted(ranks)] if ranks else []
        near: dict[int, set[int]] = {rank: set() for rank in ranks}
        for a, b in self.pairs:
            if (a, b) not in self.closed and a in near and b in near:
                near[a].add(b)
                near[b].add(a)
        found, left = [], set(ranks)
        while left:
            island, edge = set[int](), {min(left)}
            while edge:
                island |= edge
                edge = {other for rank in edge for other in near[rank]} - island
            found.append(sorted(island))
            left -= island
        return found

    def _impassable(self, plans: Sequence[InterfacePlan]) -> set[Pair]:
        addresses = [plan.address for plan in plans]

        def cut(src: int, dst: int) -> bool:
            return plans[dst].paths[addresses[src]].loss_percent == 100

        return {(a, b) for a, b in self.pairs if cut(a, b) or cut(b, a)}


def named(pairs: Iterable[Pair]) -> str:
    """Pairs in a sentence, "0-1, 2-3"; the first of many."""
    words = [f"{a}-{b}" for a, b in sorted(pairs)]
    return ", ".join(words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "")


def why_waiting(config: NodeConfig, world: int) -> str:
    """Why the nodes of a run wait while links between them are cut; empty: its islands train on.

    On a graph whose edges go one way, a node without senders would leave its receivers behind; on one without a
    period, two nodes of an island may be without each other for any number of rounds.
    """
    window = config.exchange.window_rounds + rounds_ahead(config, world)
    for part in parts_of(config).values() or [config]:
        method = part.algorithm.traits
        if method.not_in_islands:
            return f"{method.name} {method.not_in_islands}"
        if not method.gossips:
            continue
        topology = Topology(part.topology, world)
        if not topology.symmetric:
            return f"the edges of {topology.choice} go one way"
        if topology.period is None or topology.period > window:
            return f"{topology.choice} has no short period in which all neighbours exchange"
    return ""


def cut_edges(job: Job) -> CutEdges:
    """The neighbours of a run that is about to begin, or to resume."""
    edges = exchange_edges(job.config, job.world)
    return CutEdges(edges, job.plans, why_waiting(job.config, job.world), job.resumed is not None)
