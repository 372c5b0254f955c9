"""The algorithms by the names that a spec gives them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from gannet.node.algorithms.ad_psgd import ad_psgd
from gannet.node.algorithms.choco import choco
from gannet.node.algorithms.cp_oadam import cp_oadam
from gannet.node.algorithms.ddp import ddp
from gannet.node.algorithms.deepsqueeze import deepsqueeze
from gannet.node.algorithms.diloco import diloco
from gannet.node.algorithms.dp_oadam import dp_oadam
from gannet.node.algorithms.dposg import dposg
from gannet.node.algorithms.fedgan import fedgan
from gannet.node.algorithms.gossip_pga import gossip_pga
from gannet.node.algorithms.local import local
from gannet.node.algorithms.md_gan import md_gan
from gannet.node.algorithms.power_gossip import power_gossip
from gannet.node.algorithms.sgp import sgp
from gannet.node.training.worker import Step, Worker

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
