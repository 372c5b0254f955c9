"""An algorithm of your own: lazy gossip, in which a node moves only a part γ of the way to its neighbours.

    x_i ← x_i − OAdam(g_i);   every `every` steps  x_i ← x_i + γ (Σ_j w_ij x_j − x_i)

Try it: gannet compare docs/examples/my_algorithm.yaml; gannet algorithm check docs/examples/my_algorithm.py
"""

from collections.abc import AsyncGenerator

from pydantic import Field

from gannet import Method, OAdam, Step, Worker, gossip


class LazyGossip(Method):
    every: int = Field(default=1, ge=1, description="local steps from one exchange to the next")
    gamma: float = Field(default=0.5, gt=0, le=1, description="how far a node moves to its neighbours")

    @property
    def exchange_every(self) -> int:
        return self.every

    async def run(self, worker: Worker) -> AsyncGenerator[Step, None]:
        x = worker.start()
        oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
        for k in worker.steps():
            g = await worker.gradient(x)
            x = oadam.step(x, g)
            if k % self.every == 0:
                x = x + self.gamma * (await gossip(worker.peers, x, worker.neighbours) - x)
            yield Step(x, g.losses)
