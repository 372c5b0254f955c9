"""FedGAN: generators and discriminators are averaged every K local steps.

Rasouli, Sun, Rajagopal, "FedGAN: Federated Generative Adversarial Networks for Distributed Data" (arXiv 2006.07228),
algorithm 1: each agent takes K steps of its own on both players, then w ← Σ_i p_i w_i and θ ← Σ_i p_i θ_i, with p_i
the agent's share of the data. Shards here are of equal size, p_i = 1/M; x holds both players; so this is CP-OAdam
that averages parameters every K steps by way of a server, and is run as that. The paper's local optimizer is
SGD in the theorem and Adam in the experiments; optimistic Adam here is reconstructed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gannet.node.algorithms.cp_oadam import cp_oadam
from gannet.node.methods.fedgan import FedganConfig
from gannet.node.training.worker import Step, Worker


def fedgan(worker: Worker, config: FedganConfig) -> AsyncGenerator[Step, None]:
    """x ← mean_i x_i after every K-th local step."""
    return cp_oadam(worker, config.as_cp_oadam())
