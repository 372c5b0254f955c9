"""DeepSqueeze: gossip of compressed models, with an error memory on the sender's side.

Tang, Lian, Qiu, Yuan, Zhang, Zhang, Liu, "DeepSqueeze: Decentralization Meets Error-Compensated Compression" (arXiv
1907.07346), algorithm 1:

    v_i = x_i − γ g_i + δ_i;   δ_i ← v_i − C(v_i);   x_i ← x_i − γ g_i + η Σ_j (w_ij − [i = j]) C(v_j)

Models are compressed, not differences, so the error does not vanish with the distance between nodes as CHOCO's does.
But no replicas are needed, the graph may change, and a lost peer costs only its weight, as in gossip.
W is symmetric. Reconstructed: the optimistic Adam step instead of −γ g.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.algorithms.compressed import Channel
from gannet.node.codecs.feedback import ErrorFeedback
from gannet.node.methods.deepsqueeze import DeepSqueezeConfig
from gannet.node.training.effects import PeerLost
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


async def deepsqueeze(worker: Worker, config: DeepSqueezeConfig) -> AsyncGenerator[Step, None]:
    """The three lines above; the only state is δ, in the ErrorFeedback.

    δ_i is what C has left out of this node's own x: one that comes back with a neighbour's x begins with δ_i = 0, as
    all nodes do at the start.
    """
    x = worker.start()
    oadam, channel = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x)), Channel(worker)
    memory = worker.keep("error", ErrorFeedback(channel.codec, channel.coarse_count), own=True)
    peers = worker.peers
    while True:
        g = await worker.gradient(x)
        x = oadam.step(x, g)
        number = peers.next_round()
        here = worker.neighbours(number)
        await peers.begin_round(number, here)
        own = await channel.send(number, x, here, memory)
        for j, weight in here.incoming.items():
            try:
                # Σ_j w_ij = 1, so Σ_j (w_ij − [i = j]) C(v_j) = Σ_j w_ij (C(v_j) − C(v_i)).
                x.add_(await channel.receive(number, j) - own, alpha=config.eta * weight)
            except PeerLost as lost:
                peers.miss(lost)
        yield Step(x, g.losses)
