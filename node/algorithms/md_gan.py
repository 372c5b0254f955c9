"""MD-GAN: one generator on a server, a discriminator on every worker; samples and gradients are exchanged.

Hardy, Le Merrer, Sericola, "MD-GAN: Multi-Discriminator Generative Adversarial Networks for Distributed Datasets"
(IPDPS 2019, arXiv 1811.03850), algorithm 1, with N workers n = 0 … N−1, in each step:

    server:    makes X_0 … X_{k−1}; sends X_{(n+1) mod k} as X_d and X_{n mod k} as X_g to worker n
    worker n:  L discriminator steps on real images and X_d; sends F_n = ∂ loss_generator(X_g; θ_n) / ∂ X_g
    server:    moves w against (1/N) Σ_n F_n ∂X_g/∂w
    workers:   every `swap_every` steps each passes its discriminator to another worker, drawn at random

Images travel, not parameters: the traffic grows with the batch and not with the generator. Rank 0 is the server and
trains on no data; the shards are the workers'. The state of a step has the whole layout on every node: the server's
generator and running statistics are the model, its discriminator stays as it was at first, and so does the workers'
generator (gannet.ledger.snapshots.comparable knows that).
A lost worker is left out of the mean. A discriminator in flight to or from a lost worker is lost too: a worker that
does not receive one keeps its own.
Reconstructed: optimistic Adam, with moments that stay on their node when discriminators move; new real images for
each of the L steps; one cycle through all workers, in an order that all draw alike, as the swap; X_d and X_g sent
once where k = 1 makes them the same; a step's pace, that of a gradient of both players, in four equal parts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from gannet.node.methods.md_gan import MdGanConfig
from gannet.node.tasks.base import SplitTask
from gannet.node.training.effects import Compute, MessageRefused, PeerLost, Tag
from gannet.node.training.optimizers import OAdam
from gannet.node.training.peers import CollectiveFailed
from gannet.node.training.worker import Step, Worker

SERVER = 0
PART_OF_PACE = 0.25  # of making samples, judging them, their slopes, and the generator's gradient
SWAP_STREAM = 4


def md_gan(worker: Worker, config: MdGanConfig) -> AsyncGenerator[Step, None]:
    """The server's part or a worker's."""
    return _generate(worker, config) if worker.rank == SERVER else _discriminate(worker, config)


async def _generate(worker: Worker, config: MdGanConfig) -> AsyncGenerator[Step, None]:
    """w ← w − OAdam((1/N) Σ_n F_n ∂X_g/∂w)."""
    task, peers, workers = cast(SplitTask, worker.task), worker.peers, range(1, worker.world)
    x, count = worker.start(), config.batch_count(worker.world)
    oadam, segments = worker.keep("oadam", OAdam(task, worker.config.optimizer, x)), min(2, count)
    for step in worker.steps():
        number = peers.next_round()
        made = await Compute(partial(task.fakes, x, count), PART_OF_PACE)
        payloads = [peers.encode(samples) for samples in made]
        for segment in range(segments):  # X_d to all before any X_g: workers that train on X_d need no X_g yet
            for n, rank in enumerate(workers):
                await peers.send(
                    rank, Tag(number, segment), payloads[(n + 1 - segment) % count], last=segment == segments - 1
                )
        slopes, present = torch.zeros_like(made), 0
        for n, rank in enumerate(workers):
            try:
                slopes[n % count] += await peers.receive(rank, Tag(number, 0), task.sample_values)
                present += 1
            except PeerLost:
                peers.missing.add(rank)
        if not present:
            raise CollectiveFailed(f"md-gan's round {number} has no worker left: every one was lost")
        slopes /= present
        g = await worker.compute(partial(task.generator_gradient, slopes), PART_OF_PACE)
        x = oadam.step(x, g)
        if config.swap_every and step % config.swap_every == 0:
            peers.next_round()  # the workers' own
        yield Step(x, g.losses)


async def _discriminate(worker: Worker, config: MdGanConfig) -> AsyncGenerator[Step, None]:
    """L times θ ← θ − OAdam(g(θ, X_d)), then F_n at X_g."""
    task, peers = cast(SplitTask, worker.task), worker.peers
    x, count = worker.start(), config.batch_count(worker.world)
    oadam = worker.keep("oadam", OAdam(task, worker.config.optimizer, x))
    for step in worker.steps():
        number = peers.next_round()
        try:
            judged = await peers.receive(SERVER, Tag(number, 0), task.sample_values)
            for _ in range(config.local_steps):
                g = await worker.compute(partial(task.critic_gradient, x, judged), PART_OF_PACE)
                x = oadam.step(x, g)
            climbed = await peers.receive(SERVER, Tag(number, 1), task.sample_values) if count > 1 else judged
        except PeerLost as lost:
            _fail(number, lost)
        slopes, loss = await Compute(partial(task.slopes, x, climbed), PART_OF_PACE)
        await peers.send(SERVER, Tag(number, 0), peers.encode(slopes))
        if config.swap_every and step % config.swap_every == 0:
            x = await _swap(worker, x)
        yield Step(x, {**g.losses, "generator": loss})


async def _swap(worker: Worker, x: Tensor) -> Tensor:
    """x with another worker's discriminator, as a new tensor; the own one goes to a third."""
    peers, where = worker.peers, worker.task.players["discriminator"]
    number = peers.next_round()
    order = 1 + np.random.default_rng([worker.config.seed, SWAP_STREAM, number]).permutation(worker.world - 1)
    place = int(np.flatnonzero(order == worker.rank)[0])
    to, source = int(order[(place + 1) % len(order)]), int(order[place - 1])
    if to == worker.rank:
        return x
    await peers.send(to, Tag(number, 0), peers.encode(x[where]))
    new = x.clone()
    try:
        new[where] = await peers.receive(source, Tag(number, 0), where.stop - where.start)
    except PeerLost:
        peers.missing.add(source)
    return new


def _fail(number: int, lost: PeerLost) -> NoReturn:
    if isinstance(lost, MessageRefused):
        raise CollectiveFailed(
            f"md-gan's round {number} cannot be completed: from rank {lost.rank} came a {lost.reason}"
        ) from lost
    raise CollectiveFailed(
        f"md-gan's round {number} cannot be completed without rank {lost.rank} ({lost.reason}), which has the "
        "generator; a gossip algorithm (dp-oadam, dposg) continues without a lost peer"
    ) from lost
