"""CP-OAdam: centralized parallel optimistic Adam, the baseline of arXiv 1910.12999.

Every worker takes the optimistic step and all average: over a star, where rank 0 collects and sends
the mean back, or around a ring, by all-reduce. These two are different baselines on slow links: the
star's busiest link carries M−1 copies, the ring's 2(M−1)/M of one, in 2(M−1) hops.

Gradients may travel quantized without bias (QSGD), small tensors and running statistics apart. The star adds
the error of one mean of M quantized gradients and of the quantized mean; the ring quantizes every partial sum
again, so its error grows with M: about M/3 times a gradient's own where the workers' gradients agree.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import torch

from gannet.node.algorithms.averaging import mean_of
from gannet.node.methods.cp_oadam import CpOadamConfig
from gannet.node.training.optimizers import OAdam
from gannet.node.training.worker import Step, Worker


async def cp_oadam(worker: Worker, config: CpOadamConfig) -> AsyncGenerator[Step, None]:
    """x ← mean_i (x_i − OAdam(g_i)); averaging gradients, x ← x − OAdam(mean_i g_i)."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    mean = mean_of(worker, config.collective)
    for k in worker.steps():
        g = await worker.gradient(x)
        if config.average == "gradients":
            # Running statistics travel with the gradient, or each node would keep its own.
            parts = [g.field] if g.buffers is None else [g.field, g.buffers]
            field, *buffers = torch.split(await mean(torch.cat(parts)), [len(part) for part in parts])
            x = oadam.step(x, g._replace(field=field, buffers=buffers[0] if buffers else None))
        else:
            x = oadam.step(x, g)
            if k % config.every == 0:
                x = await mean(x)
        yield Step(x, g.losses)
