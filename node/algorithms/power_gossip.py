"""PowerGossip: gossip of low-rank differences, found edge by edge with power iterations.

Vogels, Karimireddy, Jaggi, "Practical Low-Rank Communication Compression in Decentralized Deep Learning" (NeurIPS
2020, arXiv 2008.01425). For every matrix X and every edge i < j, with D = X_i − X_j and a basis q known at both ends:

    p = D q = X_i q − X_j q;    X_i ← X_i − w_ij p qᵀ;    X_j ← X_j + w_ij p qᵀ

Only X_i q and X_j q travel. p, made orthonormal, is the basis of the next product, from the other side: p' = Dᵀ p.
So products alternate and each is half a power iteration on D, continued from step to step (warm start); the update
applied is always D projected onto the basis, so there is no step size to tune. Each of a step's `iterations` products
is applied as soon as it is computed, as in the authors' code. Two of them bring two nodes with weights of 1/2 to the
same value at once where D has no more than `rank` dimensions, whatever the first basis.
Reconstructed: the optimistic Adam step instead of −η g; bases by Householder's QR instead of Gram and Schmidt, so
that a difference of too low a rank still leaves a whole one; a new random one after a difference of zero, as where a
player has not moved yet; vectors and small matrices as they are, once a step; what becomes of lost peers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import torch
from torch import Tensor

from gannet.node.codecs.low_rank import LowRank
from gannet.node.methods.power_gossip import PowerGossipConfig
from gannet.node.tasks.base import random_stream
from gannet.node.training.effects import RAW_SEGMENT, PeerLost, Tag
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker

EDGE_STREAM = 3  # separate from those of gannet.node.tasks.gan.task
_NOTHING = memoryview(b"")  # instead of a product: this edge is no more


class EdgeState:
    """State of an edge, bit-identical at both ends: the basis of each matrix, and the side it multiplies."""

    def __init__(self, seed: int, ends: tuple[int, int], shapes: LowRank, rank: int) -> None:
        self._random = random_stream(seed, EDGE_STREAM, *ends)
        self._shapes, self._rank = shapes, rank
        self.from_right = True
        self.bases = [self._draw(matrix.columns) for matrix in shapes.matrices]

    def products(self, x: Tensor) -> Tensor:
        """X q of all matrices, or Xᵀ q, flat."""
        matrices = [matrix.of(x) for matrix in self._shapes.matrices]
        sides = matrices if self.from_right else [matrix.T for matrix in matrices]
        return torch.cat([x[:0], *((side @ basis).flatten() for side, basis in zip(sides, self.bases, strict=True))])

    def apply(self, x: Tensor, difference: Tensor, weight: float) -> None:
        """Add weight · p qᵀ to x, `difference` being the p of all matrices, flat, and turn to the other side."""
        begin = 0
        for number, (matrix, basis) in enumerate(zip(self._shapes.matrices, self.bases, strict=True)):
            height = matrix.rows if self.from_right else matrix.columns
            p = difference[begin : (begin := begin + height * self._rank)].view(height, self._rank)
            left, right = (p, basis) if self.from_right else (basis, p)
            matrix.of(x).addmm_(left, right.T, alpha=weight)
            self.bases[number] = torch.linalg.qr(p)[0] if bool(p.any()) else self._draw(height)
        self.from_right = not self.from_right

    def state(self) -> dict[str, Tensor]:
        """Bases, side, and the random stream that new bases come from."""
        bases = {f"basis-{number}": basis for number, basis in enumerate(self.bases)}
        return {**bases, "from_right": torch.tensor(self.from_right), "random": self._random.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        self.bases = [state[f"basis-{number}"] for number in range(len(self.bases))]
        self.from_right = bool(state["from_right"])
        self._random.set_state(state["random"])

    def _draw(self, height: int) -> Tensor:
        basis: Tensor = torch.linalg.qr(torch.randn(height, self._rank, generator=self._random))[0]
        return basis


class LowRankGossip:
    """A node's edges. One that has missed a product stays out of step, so it is left out from then on.

    Its weight is added to the node's own; a peer that is still alive is notified once, by segments of length zero: it
    waits for no more, and this node, which waits for it no longer, would soon be too many rounds ahead of it.
    """

    def __init__(self, worker: Worker, config: PowerGossipConfig) -> None:
        self._worker, self._rank = worker, config.rank
        self._shapes = LowRank(worker.task.layout, config.rank)
        self._iterations = config.iterations if self._shapes.matrices else 1
        self._edges: dict[int, EdgeState] = {}
        self._gone: set[int] = set()
        self._notified: set[int] = set()

    async def mix(self, x: Tensor) -> Tensor:
        """x after one round of gossip, as a new tensor."""
        x, number = x.clone(), self._worker.peers.next_round()
        for iteration in range(self._iterations):
            await self._iterate(x, number, iteration)
        return x

    async def _iterate(self, x: Tensor, number: int, iteration: int) -> None:
        """One product with every neighbour; small tensors go with the first."""
        peers, shapes = self._worker.peers, self._shapes
        here = self._worker.neighbours(number)
        last, tag = iteration == self._iterations - 1, Tag(number, 2 * iteration)
        rest = shapes.rest_of(x) if iteration == 0 and shapes.rest else None
        own: dict[int, Tensor] = {}
        for to in sorted({*here.outgoing} - self._notified, key=lambda to: (to - peers.rank) % peers.world):
            payload = _NOTHING if to in self._gone else peers.encode(self._edge(to).products(x))
            own[to] = peers.codec.decode(payload)  # rounded as it is over there
            await peers.send(to, tag, payload, last and rest is None)
            if rest is not None:
                payload = _NOTHING if to in self._gone else peers.raw_codec.encode(rest)
                await peers.send(to, Tag(number, 1 | RAW_SEGMENT), payload, last)
            if to in self._gone:
                self._notified.add(to)
        for j, weight in here.incoming.items():
            try:
                if j in self._gone:
                    raise PeerLost(j, "left out")
                product = await peers.receive(j, tag, len(own[j]))
                if rest is not None:
                    theirs = await peers.receive(j, Tag(number, 1 | RAW_SEGMENT), len(rest))
            except PeerLost:
                self._gone.add(j)
                peers.missing.add(j)
                continue
            sign = 1 if peers.rank < j else -1  # both ends compute the lower rank's matrix minus the higher's
            self._edge(j).apply(x, sign * (own[j] - product), -sign * weight)
            if rest is not None:
                shapes.add_rest(x, theirs - rest, weight)

    def _edge(self, j: int) -> EdgeState:
        if j not in self._edges:
            ends = (min(j, self._worker.rank), max(j, self._worker.rank))
            self._edges[j] = EdgeState(self._worker.config.seed, ends, self._shapes, self._rank)
        return self._edges[j]

    def state(self) -> dict[str, Tensor]:
        """Every edge's, and which are left out."""
        edges = {f"{j}.{name}": value for j, edge in self._edges.items() for name, value in edge.state().items()}
        return {**edges, "gone": torch.tensor(sorted(self._gone), dtype=torch.int64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state`."""
        self._gone = set(state["gone"].tolist())
        for j in {int(name.partition(".")[0]) for name in state if name != "gone"}:
            start = f"{j}."
            self._edge(j).load_state({n.removeprefix(start): v for n, v in state.items() if n.startswith(start)})


async def power_gossip(worker: Worker, config: PowerGossipConfig) -> AsyncGenerator[Step, None]:
    """x ← x − OAdam(g(x)), then a round of low-rank gossip."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    edges = worker.keep("edges", LowRankGossip(worker, config))
    while True:
        g = await worker.gradient(x)
        x = await edges.mix(oadam.step(x, g))
        yield Step(x, g.losses)
