"""The ways of training together, one short module each, side by side.

An algorithm is an async generator over a Worker: it yields a Step after every gradient step and never
asks what it runs on. It begins at `worker.start()`, and gives what it remembers beside x to `worker.keep`, so that a
run can go on from a checkpoint. `ALGORITHMS` maps the spec's name to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from node.algorithms.ad_psgd import ad_psgd
from node.algorithms.choco import choco
from node.algorithms.cp_oadam import cp_oadam
from node.algorithms.ddp import ddp
from node.algorithms.deepsqueeze import deepsqueeze
from node.algorithms.diloco import diloco
from node.algorithms.dp_oadam import dp_oadam
from node.algorithms.dposg import dposg
from node.algorithms.fedgan import fedgan
from node.algorithms.gossip_pga import gossip_pga
from node.algorithms.local import local
from node.algorithms.md_gan import md_gan
from node.algorithms.power_gossip import power_gossip
from node.algorithms.sgp import sgp
from node.worker import Step, Worker

Algorithm = Callable[[Worker, Any], AsyncGenerator[Step, None]]

ALGORITHMS: dict[str, Algorithm] = {
    "local": local,
    "dp-oadam": dp_oadam,
    "dposg": dposg,
    "cp-oadam": cp_oadam,
    "gossip-pga": gossip_pga,
    "sgp": sgp,
    "choco": choco,
    "deepsqueeze": deepsqueeze,
    "power-gossip": power_gossip,
    "diloco": diloco,
    "fedgan": fedgan,
    "ad-psgd": ad_psgd,
    "md-gan": md_gan,
    "ddp": ddp,
}
