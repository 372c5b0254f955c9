"""DDP: PyTorch's DistributedDataParallel over gloo, a baseline that this project has no hand in.

CP-OAdam that averages gradients, with another's all-reduce and compression: the hooks of
torch.distributed.algorithms.ddp_comm_hooks. Task, shards, optimizer and links are those of the other methods.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.codecs.finite import all_finite
from gannet.node.methods.ddp import DdpConfig, ring_sent_bytes, vectors_of
from gannet.node.training.effects import AllReduce
from gannet.node.training.optimizers import OAdam
from gannet.node.training.peers import OutOfRange
from gannet.node.training.worker import Step, Worker


async def ddp(worker: Worker, config: DdpConfig) -> AsyncGenerator[Step, None]:
    """x ← x − OAdam(hook's mean_i g_i)."""
    x = worker.start()
    oadam = worker.keep("oadam", OAdam(worker.task, worker.config.optimizer, x))
    for step in worker.steps():
        g = await worker.gradient(x)
        field, buffers = await AllReduce(g.field, g.buffers, g.active)
        if not all_finite(field):  # this node's own was finite
            raise OutOfRange(
                f"rank {worker.rank}: the mean gradient of step {step} is not finite, though the node's own is: "
                f"hook {config.hook} cannot hold some node's values: use hook none, or a lower learning rate if they "
                "grow"
            )
        for vector in vectors_of(config, worker.task.layout, step - 1):
            worker.peers.codec_bytes += ring_sent_bytes(*vector, worker.rank, worker.world)
        x = oadam.step(x, g._replace(field=field, buffers=buffers))
        yield Step(x, g.losses)
